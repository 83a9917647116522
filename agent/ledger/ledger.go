// Package ledger keeps an agent's records in one file (bbolt), each change
// durable before Commit returns. The open Ledger holds the file's lock, so that
// one agent owns it; what is remembered is decided by agent/state. It never
// repairs or replaces a file it does not understand.
package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/vragent/vragent/agent/record"
)

// FileName is the ledger's name in the state directory.
const FileName = "ledger.db"

// schema is the version of the layout below. A ledger of another one is refused.
const schema = "1"

// lockWait bounds the wait for a predecessor that is about to end.
const lockWait = 2 * time.Second

// Buckets of the file.
var (
	bucketMeta        = []byte("meta") // schema, node
	bucketAttachments = []byte("attachments")
	bucketHosts       = []byte("hosts")
	bucketIDs         = []byte("ids")
	bucketResources   = []byte("resources")
)

// Ledger is an open ledger.
type Ledger struct {
	db *bolt.DB
}

// Open opens the ledger in dir, made if there is none, and returns what it
// holds. A file that is empty, cut, damaged, of another node, of another schema
// or held by another process is refused; the error says which, and what to do.
func Open(dir, node string) (*Ledger, *record.Contents, error) {
	path := filepath.Join(dir, FileName)
	if err := createIfMissing(dir, path, node); err != nil {
		return nil, nil, fmt.Errorf("create ledger %s: %w", path, err)
	}
	file, err := lock(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open ledger %s: %w", path, err)
	}
	if err := checkPages(file); err != nil {
		_ = file.Close()
		return nil, nil, refuse(path, err)
	}
	// The library takes the lock again, on the same open file.
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return file, nil },
	})
	if err != nil {
		return nil, nil, refuse(path, err)
	}
	contents, err := readAll(db, node)
	if err != nil {
		_ = db.Close()
		return nil, nil, refuse(path, err)
	}
	return &Ledger{db}, contents, nil
}

// Commit makes a change durable: all of it or, on error, nothing.
func (l *Ledger) Commit(c *record.Change) error {
	if c.Empty() {
		return nil
	}
	if err := l.db.Update(func(tx *bolt.Tx) error { return apply(tx, c) }); err != nil {
		return fmt.Errorf("write ledger %s: %w", l.db.Path(), err)
	}
	return nil
}

// Close gives the file up.
func (l *Ledger) Close() error { return l.db.Close() }

// apply writes a change into a transaction.
func apply(tx *bolt.Tx, c *record.Change) error {
	w := writer{tx: tx}
	for key, a := range c.Attachments {
		if a == nil {
			w.forget(bucketAttachments, key.String())
			continue
		}
		w.json(bucketAttachments, key.String(), a)
	}
	for vn, h := range c.Hosts {
		if h == nil {
			w.forget(bucketHosts, vn)
			continue
		}
		w.json(bucketHosts, vn, h)
	}
	for key, n := range c.IDs {
		if n == 0 {
			w.forget(bucketIDs, idKey(key))
			continue
		}
		w.put(bucketIDs, idKey(key), encodeNumber(n))
	}
	for key, r := range c.Resources {
		if r == nil {
			w.forget(bucketResources, resourceKey(key))
			continue
		}
		w.put(bucketResources, resourceKey(key), encodeResource(r))
	}
	return w.err
}

// createIfMissing makes an empty ledger under another name and links it into
// place, so that no crash leaves half of one. Linking fails if somebody else
// was faster; theirs is used then.
func createIfMissing(dir, path, node string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	draft := fmt.Sprintf("%s.new.%d", path, os.Getpid())
	defer os.Remove(draft)
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeEmpty(draft, node); err != nil {
		return err
	}
	if err := os.Link(draft, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func writeEmpty(path, node string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketAttachments, bucketHosts, bucketIDs, bucketResources} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		w := writer{tx: tx}
		w.put(bucketMeta, "schema", []byte(schema))
		w.put(bucketMeta, "node", []byte(node))
		return w.err
	})
	return errors.Join(err, db.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lock opens the file and takes its lock (flock, as the library does), within
// lockWait.
func lock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errors.New("not a regular file"), err, file.Close())
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockWait / 20) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			err = fmt.Errorf("%s holds it (%w): one agent at a time: end it, or give this one its own stateDir", holder(file), err)
			return nil, errors.Join(err, file.Close())
		}
	}
}

// refuse explains why a ledger is not used. It is left as it is.
func refuse(path string, err error) error {
	return fmt.Errorf("open ledger %s: %w; it was left as it is: restore it from a copy, or move it away to start without one "+
		"(pods that run now must then be made anew)", path, err)
}
