package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serve answers every HTTP request on every address with name, until the
// context ends. It is what runs in the backend pods.
func serve(ctx context.Context, name string, addrs []string) error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(w, name)
	})
	failed := make(chan error, len(addrs))
	for _, a := range addrs {
		listener, err := net.Listen("tcp", a)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: handler}
		defer server.Close()
		go func() { failed <- server.Serve(listener) }() // ends by Close
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// tally is what load prints: how often each name answered.
type tally struct {
	Answers map[string]int `json:"answers"`
	Failed  int            `json:"failed"`
	Error   string         `json:"error,omitempty"` // of the last failure
}

// load makes count connections one after the other, a request on each.
func load(ctx context.Context, count, addr string) error {
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 {
		return fmt.Errorf("count %q: must be a number from 1", count)
	}
	t := tally{Answers: map[string]int{}}
	for range n {
		conn, name, err := ask(ctx, addr)
		if err != nil {
			t.Failed++
			t.Error = err.Error()
			continue
		}
		t.Answers[name]++
		_ = conn.Close()
	}
	return json.NewEncoder(os.Stdout).Encode(t)
}

// hold opens connections until one of the wanted names answers, prints the
// local address and that name, and keeps that connection busy: a request every
// few seconds.
func hold(ctx context.Context, addr string, want []string) error {
	conn, name, err := ask(ctx, addr)
	for tries := 0; err == nil && !slices.Contains(want, name); tries++ {
		_ = conn.Close()
		if tries == 200 {
			return fmt.Errorf("none of %v answered at %s in 200 connections", want, addr)
		}
		conn, name, err = ask(ctx, addr)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Printf("%s %s\n", conn.LocalAddr(), name)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Second):
			if _, err := request(conn); err != nil {
				return err
			}
		}
	}
}

// ask opens a connection, sends a request and returns who answered.
func ask(ctx context.Context, addr string) (net.Conn, string, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, "", err
	}
	name, err := request(conn)
	if err != nil {
		_ = conn.Close()
		return nil, "", err
	}
	return conn, name, nil
}

// request speaks HTTP by hand, because the connection is the point here.
func request(conn net.Conn) (string, error) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: demo\r\n\r\n"); err != nil {
		return "", err
	}
	buf := make([]byte, 4096)
	text := ""
	for !strings.Contains(text, "\r\n\r\n") || strings.HasSuffix(text, "\r\n\r\n") {
		n, err := conn.Read(buf)
		if err != nil {
			return "", err
		}
		text += string(buf[:n])
	}
	_, body, _ := strings.Cut(text, "\r\n\r\n")
	return strings.TrimSpace(body), nil
}
