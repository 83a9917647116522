package ledger

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

func attachment(n int) *record.Attachment {
	return &record.Attachment{
		ContainerID: fmt.Sprintf("c%04d", n), Ifname: "eth0", Network: "vrouter", Netns: "/run/netns/x",
		Namespace: "default", Pod: fmt.Sprintf("web-%d", n), PodUID: "u", VMI: fmt.Sprintf("vmi-%d", n), VN: "k8s-default-pod-network",
		Tap: fmt.Sprintf("tap%d", n), MAC: table.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)},
		Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), netip.MustParseAddr("2001:db8::1")},
		MTU:   1468, Created: time.Unix(1_700_000_000, 0).UTC(),
	}
}

func filled(n int) *record.Change {
	c := &record.Change{
		Attachments: map[record.AttachmentKey]*record.Attachment{},
		Hosts:       map[string]*record.Host{"vn": {VN: "vn", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}},
		IDs:         map[record.IDKey]uint32{},
		Resources:   map[record.ResourceKey]*record.Resource{},
	}
	for i := range n {
		a := attachment(i)
		c.Attachments[a.Key()] = a
		c.IDs[record.IDKey{Space: record.SpaceNH, Key: "encap/" + a.Key().String()}] = uint32(i + 1)
		k := record.ResourceKey{Type: 4, Name: a.VMI}
		c.Resources[k] = &record.Resource{ResourceKey: k, Version: "v1", Body: []byte{1, 2, 3}, Orphan: i%2 == 1}
	}
	return c
}

func open(t *testing.T, dir string) (*Ledger, *record.Contents) {
	t.Helper()
	l, c, err := Open(dir, "node1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, c
}

// What was committed is there after closing and opening, and nothing else.
func TestRemembers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	l, c := open(t, dir)
	if !reflect.DeepEqual(c, &record.Contents{}) {
		t.Fatalf("a new ledger holds %+v", c)
	}
	change := filled(3)
	if err := l.Commit(change); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()

	l, c = open(t, dir)
	if len(c.Attachments) != 3 || len(c.IDs) != 3 || len(c.Resources) != 3 || len(c.Hosts) != 1 {
		t.Fatalf("holds %d attachments, %d ids, %d resources, %d hosts", len(c.Attachments), len(c.IDs), len(c.Resources), len(c.Hosts))
	}
	for i := range c.Attachments {
		if want := change.Attachments[c.Attachments[i].Key()]; !reflect.DeepEqual(&c.Attachments[i], want) {
			t.Errorf("attachment\n got %+v\nwant %+v", c.Attachments[i], want)
		}
	}
	for i := range c.Resources {
		if want := change.Resources[c.Resources[i].ResourceKey]; !reflect.DeepEqual(&c.Resources[i], want) {
			t.Errorf("resource\n got %+v\nwant %+v", c.Resources[i], want)
		}
	}
	for _, id := range c.IDs {
		if want := change.IDs[id.IDKey]; id.Number != want {
			t.Errorf("id %v, want %d", id, want)
		}
	}

	forget := &record.Change{
		Attachments: map[record.AttachmentKey]*record.Attachment{},
		Hosts:       map[string]*record.Host{"vn": nil},
		IDs:         map[record.IDKey]uint32{},
		Resources:   map[record.ResourceKey]*record.Resource{},
	}
	for k := range change.Attachments {
		forget.Attachments[k] = nil
	}
	for k := range change.IDs {
		forget.IDs[k] = 0
	}
	for k := range change.Resources {
		forget.Resources[k] = nil
	}
	if err := l.Commit(forget); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, c = open(t, dir); !reflect.DeepEqual(c, &record.Contents{}) {
		t.Errorf("after forgetting everything it holds %+v", c)
	}
}

func TestEmptyChangeWritesNothing(t *testing.T) {
	l, _ := open(t, t.TempDir())
	before := l.db.Stats()
	if err := l.Commit(&record.Change{}); err != nil {
		t.Fatal(err)
	}
	after := l.db.Stats()
	if n := after.TxStats.GetWrite() - before.TxStats.GetWrite(); n != 0 {
		t.Errorf("%d writes", n)
	}
}

// A change is all or nothing: one record that cannot be written keeps the others out.
func TestCommitIsAtomic(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	c := filled(2)
	c.IDs[record.IDKey{Space: record.SpaceNH, Key: strings.Repeat("k", bolt.MaxKeySize)}] = 9
	if err := l.Commit(c); err == nil {
		t.Fatal("a key that is too long was accepted")
	}
	_ = l.Close()
	if _, got := open(t, dir); !reflect.DeepEqual(got, &record.Contents{}) {
		t.Errorf("half a change was written: %+v", got)
	}
}

// mustRefuse opens a spoilt ledger, and checks that the file stays as it is.
func mustRefuse(t *testing.T, dir, node string, words ...string) {
	t.Helper()
	path := filepath.Join(dir, FileName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l, _, err := Open(dir, node)
	if err == nil {
		_ = l.Close()
		t.Fatal("the ledger was accepted")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("the refused file was changed (%v)", err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func written(t *testing.T, n int) (dir string, bytes []byte) {
	t.Helper()
	dir = t.TempDir()
	l, _ := open(t, dir)
	if err := l.Commit(filled(n)); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	b, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	return dir, b
}

func TestRefusesEmptyAndForeignFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	for text, word := range map[string]string{
		"":                                 "truncated",
		"short":                            "not a ledger",
		strings.Repeat("garbage ", 10_000): "not a ledger",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		mustRefuse(t, dir, "node1", word, path, "left as it is")
	}
	_ = os.Remove(path)
	_ = os.Mkdir(path, 0o700)
	if _, _, err := Open(dir, "node1"); err == nil {
		t.Error("a directory was accepted")
	}
}

// A ledger cut anywhere either has lost nothing or is refused.
func TestTruncated(t *testing.T) {
	dir, whole := written(t, 400)
	path := filepath.Join(dir, FileName)
	refused := 0
	for size := len(whole) - 1; size >= 0; size -= 1 + len(whole)/61 {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		l, c, err := Open(dir, "node1")
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), "truncated") && !strings.Contains(err.Error(), "not a ledger") {
				t.Errorf("cut to %d: unclear error %q", size, err)
			}
			continue
		}
		_ = l.Close()
		if len(c.Attachments) != 400 {
			t.Errorf("cut to %d of %d bytes: accepted with %d of 400 attachments", size, len(whole), len(c.Attachments))
		}
	}
	if refused < 40 {
		t.Errorf("only %d cuts were refused", refused)
	}
	_ = os.WriteFile(path, whole[:len(whole)/4], 0o600)
	mustRefuse(t, dir, "node1", "truncated")
}

// A flipped byte anywhere is refused or harmless; it never changes a record.
func TestFlippedBytes(t *testing.T) {
	dir, whole := written(t, 60)
	path := filepath.Join(dir, FileName)
	want, err := reread(dir)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for at := 0; at < len(whole); at += 53 {
		spoilt := slices.Clone(whole)
		spoilt[at] ^= 0x41
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := reread(dir)
		if err != nil {
			refused++
			continue
		}
		// One of the two heads may be lost: the other one counts then, which
		// is the state before the last change.
		if !reflect.DeepEqual(got, want) && at >= 2*os.Getpagesize() {
			t.Fatalf("byte %d flipped: accepted with other contents", at)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

func reread(dir string) (*record.Contents, error) {
	l, c, err := Open(dir, "node1")
	if err == nil {
		_ = l.Close()
	}
	return c, err
}

func TestRefusesOtherNodeAndSchema(t *testing.T) {
	dir, _ := written(t, 1)
	mustRefuse(t, dir, "node2", `belongs to node "node1"`, `this is "node2"`)

	db, err := bolt.Open(filepath.Join(dir, FileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		w := writer{tx: tx}
		w.put(bucketMeta, "schema", []byte("2"))
		return w.err
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	mustRefuse(t, dir, "node1", `schema "2"`)
}

// TestHolder is the other process of TestLocked.
func TestHolder(t *testing.T) {
	dir := os.Getenv("LEDGER_DIR")
	if dir == "" {
		t.Skip("run by TestLocked")
	}
	open(t, dir)
	fmt.Println("open")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command(os.Args[0], "-test.run=^TestHolder$")
	c.Env = append(os.Environ(), "LEDGER_DIR="+dir)
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = c.Wait()
	}()
	if _, err := out.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, dir, "node1", fmt.Sprintf("process %d holds it", c.Process.Pid))
}

// Whatever bytes lie in a record, decoding them ends in a value or an error.
func FuzzDecode(f *testing.F) {
	c := filled(1)
	for _, r := range c.Resources {
		f.Add(resourceKey(r.ResourceKey), encodeResource(r))
	}
	f.Add("nh/tunnel/192.0.2.1", encodeNumber(7))
	f.Add("c0000/eth0", []byte(`{"containerID":"c0000","ifname":"eth0","vmi":"u","vn":"n","tap":"t","addrs":["192.0.2.1"]}`))
	f.Add("vn", []byte(`{"vn":"vn","addrs":[""]}`))
	f.Fuzz(func(t *testing.T, key string, payload []byte) {
		if a, err := decodeAttachment(key, payload); err == nil && a.Key().String() != key {
			t.Errorf("attachment of another key: %q", key)
		}
		_, _ = decodeHost(key, payload)
		if id, err := decodeID(key, payload); err == nil && (idKey(id.IDKey) != key || !slices.Equal(encodeNumber(id.Number), payload)) {
			t.Errorf("id %v does not encode to what it was decoded from", id)
		}
		if r, err := decodeResource(key, payload); err == nil {
			again, err := decodeResource(resourceKey(r.ResourceKey), encodeResource(&r))
			if err != nil || !reflect.DeepEqual(again, r) {
				t.Errorf("resource %+v became %+v (%v)", r, again, err)
			}
		}
		if got, err := unseal(bucketIDs, key, seal(bucketIDs, key, payload)); err != nil || !slices.Equal(got, payload) {
			t.Errorf("seal and unseal: %v", err)
		}
		_, _ = unseal(bucketIDs, key, payload)
	})
}

// Whatever is in the file, opening it ends in contents or an error.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	l, _, err := Open(dir, "node1")
	if err != nil {
		f.Fatal(err)
	}
	if err := l.Commit(filled(3)); err != nil {
		f.Fatal(err)
	}
	_ = l.Close()
	path := filepath.Join(dir, FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(8192+16), []byte{0xff, 0xff, 0xff, 0xff}, uint32(len(whole)))
	f.Add(uint32(16384), []byte{0, 0, 0, 0, 0, 0, 0, 0, 0xff}, uint32(20000))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, size uint32) {
		spoilt := slices.Clone(whole)
		copy(spoilt[int(at)%len(spoilt):], patch)
		if err := os.WriteFile(path, spoilt[:int(size)%(len(spoilt)+1)], 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = reread(dir)
	})
}

func BenchmarkCommit(b *testing.B) {
	l, _, err := Open(b.TempDir(), "node1")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for i := 0; b.Loop(); i++ {
		a := attachment(i % 250)
		if err := l.Commit(&record.Change{Attachments: map[record.AttachmentKey]*record.Attachment{a.Key(): a}}); err != nil {
			b.Fatal(err)
		}
	}
}
