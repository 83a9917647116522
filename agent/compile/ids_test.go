package compile

import (
	"fmt"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

func TestNumbersRest(t *testing.T) {
	x := NewIDs(nil, start)
	a, b := x.Get(record.SpaceLabel, "a"), x.Get(record.SpaceLabel, "b")
	if a != table.MinLabel || b != a+1 || x.Get(record.SpaceLabel, "a") != a {
		t.Fatalf("got %d and %d", a, b)
	}
	x.Free(record.SpaceLabel, "a")
	if c := x.Get(record.SpaceLabel, "c"); c == a {
		t.Error("a number was given away at once")
	}
	x.SetTime(start.Add(Rest))
	if d := x.Get(record.SpaceLabel, "d"); d != a {
		t.Errorf("got %d, want the lowest that has rested, %d", d, a)
	}
	if x.Lookup(record.SpaceLabel, "a") != 0 || x.Lookup(record.SpaceLabel, "b") != b {
		t.Error("lookup")
	}
}

// What the last process may have freed just before it ended rests after a restart.
func TestRestartRests(t *testing.T) {
	stored := []record.ID{{IDKey: record.IDKey{Space: record.SpaceLabel, Key: "a"}, Number: 20}}
	x := NewIDs(stored, start)
	if n := x.Get(record.SpaceLabel, "b"); n <= 20+spareAfterRestart {
		t.Errorf("got %d", n)
	}
	x.SetTime(start.Add(Rest))
	if n := x.Get(record.SpaceLabel, "c"); n != 16 {
		t.Errorf("got %d, want 16", n)
	}
	if x.Get(record.SpaceLabel, "a") != 20 {
		t.Error("the remembered number is lost")
	}
}

func TestBadRecordsAreReplaced(t *testing.T) {
	key := func(k string) record.IDKey { return record.IDKey{Space: record.SpaceNH, Key: k} }
	x := NewIDs([]record.ID{{IDKey: key("a"), Number: 1}, {IDKey: key("b"), Number: 1}, {IDKey: key("c"), Number: 1 << 30},
		{IDKey: record.IDKey{Space: "other", Key: "d"}, Number: 3}}, start)
	if c := x.TakeChanges(); len(c) != 3 {
		t.Errorf("changes %v", c)
	}
	if x.Get(record.SpaceNH, "a") == x.Get(record.SpaceNH, "b") {
		t.Error("two keys have one number")
	}
}

func TestSpaceUsedUp(t *testing.T) {
	x := NewIDs(nil, start)
	s := x.spaces[record.SpaceLabel]
	s.last = s.next + 2
	for i := range 3 {
		if x.Get(record.SpaceLabel, fmt.Sprint(i)) == 0 {
			t.Fatal("too early")
		}
	}
	if n := x.Get(record.SpaceLabel, "more"); n != 0 {
		t.Errorf("got %d", n)
	}
	x.Free(record.SpaceLabel, "1")
	if n := x.Get(record.SpaceLabel, "more"); n != 17 {
		t.Errorf("got %d, want the one that rests", n)
	}
}

// Many pods that come and go leave no numbers behind, and the space stays dense.
func TestChurn(t *testing.T) {
	x := NewIDs(nil, start)
	before := x.TakeChanges()
	highest := table.Label(0)
	for i := range 5000 {
		x.SetTime(start.Add(time.Duration(i) * 100 * time.Millisecond))
		k := record.AttachmentKey{ContainerID: fmt.Sprint(i), Ifname: "eth0"}
		p := x.Pod(k, k.ContainerID)
		highest = max(highest, p.Label)
		x.FreePod(k, k.ContainerID, true)
	}
	for k, n := range x.TakeChanges() {
		if n != 0 {
			t.Errorf("%v = %d is left", k, n)
		}
	}
	if highest > 16+700 || len(before) != 0 {
		t.Errorf("highest label %d", highest)
	}
}

func TestRemember(t *testing.T) {
	x := NewIDs(nil, start)
	x.Get(record.SpaceNH, "a")
	x.Get(record.SpaceNH, "b")
	x.Free(record.SpaceNH, "b")
	c := x.TakeChanges()
	x.Remember(c)
	again := x.TakeChanges()
	if len(again) != len(c) || again[record.IDKey{Space: record.SpaceNH, Key: "a"}] != 1 || again[record.IDKey{Space: record.SpaceNH, Key: "b"}] != 0 {
		t.Errorf("got %v, want %v", again, c)
	}
}
