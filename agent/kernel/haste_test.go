package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hurried returns a Haste with a switch of its own.
func hurried(t *testing.T, was string) (*Haste, func() string) {
	t.Helper()
	dir := t.TempDir()
	h := NewHaste(dir)
	h.file = filepath.Join(dir, "switch")
	if err := os.WriteFile(h.file, []byte(was), 0o600); err != nil {
		t.Fatal(err)
	}
	return h, func() string {
		text, err := os.ReadFile(h.file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
}

// Many at once move the switch, and a while after the last it is as it was.
func TestHaste(t *testing.T) {
	h, state := hurried(t, "0\n")
	var leave []func()
	for i := range hasteFrom {
		if state() != "0" {
			t.Fatalf("in haste for %d requests", i)
		}
		leave = append(leave, h.Enter())
	}
	if state() != "1" {
		t.Fatal("not in haste")
	}
	h.Tick(time.Now().Add(time.Minute)) // still there
	if state() != "1" {
		t.Error("the haste ended with requests under way")
	}
	for _, f := range leave {
		f()
	}
	h.Tick(time.Now())
	if state() != "1" {
		t.Error("the haste ended at once")
	}
	h.Tick(time.Now().Add(2 * time.Minute))
	if _, err := os.Stat(h.note); state() != "0" || err == nil {
		t.Errorf("afterwards the switch is %s; note: %v", state(), err)
	}
}

// A successor undoes what a killed agent left; an administrator's 1 stays.
func TestHasteIsUndone(t *testing.T) {
	h, state := hurried(t, "0\n")
	for range hasteFrom {
		h.Enter()
	}
	next := &Haste{file: h.file, note: h.note}
	if err := next.Close(); err != nil || state() != "0" {
		t.Errorf("%v, the switch is %s", err, state())
	}
	h, state = hurried(t, "1\n")
	for range hasteFrom {
		h.Enter()
	}
	if err := h.Close(); err != nil || state() != "1" {
		t.Errorf("%v, an administrator's switch is %s", err, state())
	}
	h, _ = hurried(t, "0")
	h.file = "/nowhere" // no such kernel, or not for us
	for range hasteFrom {
		h.Enter()
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
