package loop

import (
	"context"
	"time"

	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/agent/state"
)

// leaks compares what is recorded with what is there. The kernel is asked between
// two turns: nobody changes the record meanwhile.
func (l *Loop) leaks(ctx context.Context, q *rpc.Leaks) *rpc.Reply {
	return l.ask(ctx, func(reply func(*rpc.Reply)) {
		facts, err := kernelFacts()
		if err != nil {
			reply(refuse(&rpc.Error{Code: rpc.CodeInternal, Message: err.Error()}))
			return
		}
		found := l.turn.node.Audit(facts, q.Repair, time.Now())
		for _, leak := range found.Leaks {
			if leak.Repaired {
				l.log.Info("freed", "network", leak.Network, "address", leak.Addr, "owner", leak.Owner, "cause", leak.Cause)
				l.turn.dirty = true
			}
		}
		l.turn.replies = append(l.turn.replies, func(err error) {
			if err != nil {
				reply(refuse(&rpc.Error{Code: rpc.CodeTryAgain, Message: err.Error(), Fix: "make room for the ledger, or make it writable"}))
				return
			}
			reply(&rpc.Reply{Leaks: found})
		})
	})
}

func kernelFacts() (*state.Facts, error) {
	taps, err := kernel.Taps()
	if err != nil {
		return nil, err
	}
	marked, err := kernel.Marks()
	if err != nil {
		return nil, err
	}
	facts := &state.Facts{Taps: taps, Marks: map[string]record.Mark{}, Netns: kernel.IsNetns}
	for tap, k := range marked {
		if m, ok := record.ParseMark(k.Alias); ok {
			facts.Marks[tap] = *m
		}
	}
	return facts, nil
}
