// Command traffic is both ends of the connections that the cluster's tests
// watch: servers that say who they are, clients that open connections at a
// steady rate or hold them for long. It owns its sockets and its counters, and
// prints a summary as JSON when it ends or every time it gets SIGUSR1. It is not
// a benchmark.
//
//	traffic serve -port 8080
//	traffic rate  -target web:80 -rate 20 [-for 60s]
//	traffic hold  -target web:80 -streams 10 [-for 60s]
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a client waits for an answer before it counts a loss.
const patience = 15 * time.Second

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("say serve, rate or hold"))
	}
	set := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	port := set.Int("port", 8080, "TCP and UDP `PORT` to serve")
	target := set.String("target", "", "`HOST:PORT` of the server")
	rate := set.Int("rate", 20, "new connections a second")
	streams := set.Int("streams", 10, "connections held open")
	duration := set.Duration("for", 0, "how long (0: until a signal)")
	_ = set.Parse(os.Args[2:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if *duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *duration)
		defer cancel()
	}
	s := &summary{Backends: map[string]int{}}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(ctx, *port)
	case "rate":
		err = s.watch(ctx, func(ctx context.Context) { open(ctx, s, *target, *rate) })
	case "hold":
		err = s.watch(ctx, func(ctx context.Context) { hold(ctx, s, *target, *streams) })
	default:
		err = fmt.Errorf("%q is none of serve, rate, hold", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "traffic:", err)
	os.Exit(1)
}

// summary counts what clients saw.
type summary struct {
	mu       sync.Mutex
	Asked    int            `json:"asked"`    // requests
	Answered int            `json:"answered"` //
	Failed   int            `json:"failed"`   // connections that were refused, reset, silent or changed their server
	Errors   []string       `json:"errors,omitempty"`
	SlowestS float64        `json:"slowestSeconds"` // longest wait for an answer that came
	Backends map[string]int `json:"backends"`       // answers by server
}

func (s *summary) answer(backend string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Asked++
	s.Answered++
	s.Backends[backend]++
	s.SlowestS = max(s.SlowestS, took.Seconds())
}

func (s *summary) failure(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Asked++
	s.Failed++
	if len(s.Errors) < 20 {
		s.Errors = append(s.Errors, time.Now().UTC().Format("15:04:05.000 ")+err.Error())
	}
}

func (s *summary) print() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(s)
}

// watch runs the clients and prints the summary at the end and on SIGUSR1.
func (s *summary) watch(ctx context.Context, run func(context.Context)) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	ended := make(chan struct{})
	go func() { defer close(ended); run(ctx) }()
	for {
		select {
		case <-asked:
			s.print()
		case <-ended:
			s.print()
			return nil
		}
	}
}

// open makes new connections at a steady rate, each for one question.
func open(ctx context.Context, s *summary, target string, rate int) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			wait.Go(func() {
				began := time.Now()
				if backend, err := once(target); err != nil {
					s.failure(err)
				} else {
					s.answer(backend, time.Since(began))
				}
			})
		}
	}
}

func once(target string) (string, error) {
	c, err := net.DialTimeout("tcp", target, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return ask(c, bufio.NewReader(c))
}

func ask(c net.Conn, r *bufio.Reader) (string, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("who\n")); err != nil {
		return "", err
	}
	line, err := r.ReadString('\n')
	return strings.TrimSpace(line), err
}

// hold keeps connections open and asks on each ten times a second. Of one that
// breaks it counts the failure and opens another.
func hold(ctx context.Context, s *summary, target string, streams int) {
	var wait sync.WaitGroup
	for range streams {
		wait.Go(func() {
			for ctx.Err() == nil {
				if err := stream(ctx, s, target); err != nil && ctx.Err() == nil {
					s.failure(err)
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
	}
	wait.Wait()
}

func stream(ctx context.Context, s *summary, target string) error {
	c, err := net.DialTimeout("tcp", target, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	first := ""
	for {
		began := time.Now()
		backend, err := ask(c, r)
		if err != nil {
			return fmt.Errorf("stream to %s: %w", first, err)
		}
		if first == "" {
			first = backend
		}
		if backend != first {
			return fmt.Errorf("stream to %s is answered by %s", first, backend)
		}
		s.answer(backend, time.Since(began))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// serve answers every line, and every datagram, with the host's name. When it is
// told to end it takes no new connections and lets the clients finish theirs.
func serve(ctx context.Context, port int) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	u, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		l.Close()
		u.Close()
	}()
	go echo(u, name)
	var open sync.WaitGroup
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		open.Go(func() {
			defer c.Close()
			for in := bufio.NewScanner(c); in.Scan(); {
				if _, err := fmt.Fprintln(c, name); err != nil {
					return
				}
			}
		})
	}
	open.Wait()
	return nil
}

func echo(u net.PacketConn, name string) {
	b := make([]byte, 2048)
	for {
		_, from, err := u.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = u.WriteTo([]byte(name+"\n"), from)
	}
}
