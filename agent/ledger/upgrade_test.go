package ledger

import (
	"compress/gzip"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

// A ledger of the first release, which knew of no cluster addresses, is taken over
// as it is; the file was written by that release.
func TestLedgerOfTheFirstRelease(t *testing.T) {
	packed, err := os.Open("testdata/first-release.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), file, 0o600); err != nil {
		t.Fatal(err)
	}
	l, got, err := Open(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	const vn, uuid = "k8s-default-pod-network", "00000001-0000-4000-8000-000000000000"
	addrs := func(four, six string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr(four), netip.MustParseAddr(six)}
	}
	want := &record.Contents{
		Attachments: []record.Attachment{{
			ContainerID: "c1", Ifname: "eth0", Network: "vrouter", Netns: "/run/netns/c1", Namespace: "default", Pod: "pod-1", PodUID: "uid-1",
			VMI: uuid, VN: vn, Tap: "tap00000001-00", MAC: table.MAC{2, 0, 0, 0, 0, 1},
			Addrs: addrs("192.0.2.2", "2001:db8:1::2"), MTU: 1468, Created: time.Unix(1_000_000, 0).UTC(),
		}},
		Hosts: []record.Host{{VN: vn, Addrs: addrs("192.0.2.1", "2001:db8:1::1")}},
		IDs: []record.ID{
			{IDKey: record.IDKey{Space: record.SpaceLabel, Key: "vmi/" + uuid}, Number: 17},
			{IDKey: record.IDKey{Space: record.SpaceVif, Key: "pod/c1/eth0"}, Number: 3},
		},
		Resources: []record.Resource{
			{ResourceKey: record.ResourceKey{Type: 1, Name: "n2"}, Version: "def", Body: []byte("body")},
			{ResourceKey: record.ResourceKey{Type: 4, Name: uuid}, Version: "abc", Body: []byte{1, 2, 3}, Orphan: true},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	a := got.Attachments[0]
	a.ClusterAddrs, a.ClusterVN, a.Hidden = []netip.Addr{netip.MustParseAddr("192.0.2.9")}, vn, true
	if err := l.Commit(&record.Change{Attachments: map[record.AttachmentKey]*record.Attachment{a.Key(): &a}}); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	l, got, err = Open(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !reflect.DeepEqual(got.Attachments[0], a) {
		t.Errorf("got  %+v\nwant %+v", got.Attachments[0], a)
	}
}
