// Command pack makes an image archive (an OCI image layout in a tar) of a
// directory tree, which `ctr images import` takes without any registry. It owns
// nothing but its output, which is the same byte for byte for the same tree. It
// does not build programs and knows no base images.
//
//	pack -root DIR -o out.tar -tag name:version [-tag …] [-entrypoint a,b] [-cmd a,b] [-user u:g] [-env K=V]
package main

import (
	"archive/tar"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// order is what is to be packed.
type order struct {
	root, out, arch string
	tags            list
	config          v1.Config
}

func main() {
	var o order
	var env list
	entrypoint := flag.String("entrypoint", "", "`PROGRAM,ARGUMENT,…` that runs")
	cmd := flag.String("cmd", "", "`ARGUMENT,…` that the runtime may replace")
	flag.StringVar(&o.root, "root", "", "`DIRECTORY` that becomes /")
	flag.StringVar(&o.out, "o", "", "`FILE` to write")
	flag.StringVar(&o.arch, "arch", "amd64", "architecture of the programs")
	flag.StringVar(&o.config.User, "user", "", "`USER:GROUP` that runs it")
	flag.Var(&o.tags, "tag", "`NAME:VERSION` of the image (repeatable)")
	flag.Var(&env, "env", "`KEY=VALUE` (repeatable)")
	flag.Parse()
	o.config.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	o.config.WorkingDir = "/"
	o.config.Entrypoint, o.config.Cmd = words(*entrypoint), words(*cmd)
	err := errors.New("-root, -o and -tag are needed (-help lists all)")
	if o.root != "" && o.out != "" && len(o.tags) > 0 {
		err = pack(&o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// pack writes the archive under another name first, so that a half-written one
// is never taken for a whole one.
func pack(o *order) error {
	dir, err := os.MkdirTemp(filepath.Dir(o.out), ".pack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	image, err := build(o, filepath.Join(dir, "layer.tar"))
	if err != nil {
		return fmt.Errorf("image of %s: %w", o.root, err)
	}
	if err := writeLayout(filepath.Join(dir, "layout"), image, o.tags); err != nil {
		return fmt.Errorf("layout: %w", err)
	}
	whole := filepath.Join(dir, "whole.tar")
	if err := writeTree(whole, filepath.Join(dir, "layout")); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if err := os.Rename(whole, o.out); err != nil {
		return err
	}
	size, err := image.Size()
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	fmt.Printf("%s: %s, %s (manifest %d bytes)\n", o.out, &o.tags, digest, size)
	return err
}

func build(o *order, layerFile string) (v1.Image, error) {
	if err := writeTree(layerFile, o.root); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromFile(layerFile, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = o.arch, "linux", o.config
	return mutate.ConfigFile(image, file)
}

// writeLayout names the image once per tag, as containerd reads names.
func writeLayout(dir string, image v1.Image, tags []string) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		err := path.AppendImage(image, layout.WithAnnotations(map[string]string{
			"io.containerd.image.name":          tag,
			"org.opencontainers.image.ref.name": tag[strings.LastIndex(tag, ":")+1:],
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

// writeTree makes a tar of a directory: sorted, owned by root, without times.
func writeTree(file, root string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return add(w, path, filepath.ToSlash(name))
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func add(w *tar.Writer, path, name string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	if h.Name = name; info.IsDir() {
		h.Name += "/"
	}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	h.ModTime, h.AccessTime, h.ChangeTime, h.Format = time.Unix(0, 0), time.Time{}, time.Time{}, tar.FormatPAX
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
