package main

import (
	"context"
	"net"
	"strings"
	"testing"
)

func TestUnevenSharesAreAFailure(t *testing.T) {
	for _, c := range []struct {
		name   string
		shares map[string]int
		says   string
	}{
		{"even", map[string]int{"web1": 40, "web2": 41, "web3": 39, "web4": 20, "web5": 60}, ""},
		{"one starves", map[string]int{"web1": 59, "web2": 41, "web3": 41, "web4": 19, "web5": 40}, "web4 got 19"},
		{"one is missing", map[string]int{"web1": 50, "web2": 50, "web3": 50, "web5": 50}, "web4 got 0"},
		{"a stranger", map[string]int{"web1": 40, "web2": 40, "web3": 40, "web4": 40, "web5": 39, "eve": 1}, `"eve" answered`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := printShares(c.shares)
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v, want a word of %s", err, c.says)
			}
		})
	}
}

func TestRequestReadsWhoAnswered(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, "web1", []string{addr}) }()
	defer func() { stop(); <-ended }()

	var conn net.Conn
	for range 1000 { // until it listens
		if conn, err = net.Dial("tcp", addr); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 { // the connection stays open
		if name, err := request(conn); err != nil || name != "web1" {
			t.Errorf("%q answered, %v", name, err)
		}
	}
}
