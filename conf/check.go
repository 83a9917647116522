package conf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// checks gathers every mistake of a file, so that one run shows them all.
type checks struct {
	file  string
	found []error
}

func (c *checks) fail(key, cause, fix string) {
	c.found = append(c.found, &Error{c.file, key, cause, fix})
}

func (c *checks) err() error { return errors.Join(c.found...) }

func (c *checks) within(key string, v, low, high int, fix string) {
	if v < low || v > high {
		c.fail(key, fmt.Sprintf("%d is not between %d and %d", v, low, high), fix)
	}
}

func (c *checks) oneOf(key, v string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		c.fail(key, fmt.Sprintf("%q is not known", v), "use "+strings.Join(allowed, " or "))
	}
}

// absolute wants a path that means the same whatever the working directory is.
func (c *checks) absolute(key, path string) {
	switch {
	case path == "":
		c.fail(key, "is missing", "give an absolute path")
	case !filepath.IsAbs(path):
		c.fail(key, fmt.Sprintf("%q is not an absolute path", path), "start it with /")
	}
}

// runDir must leave room for the names of sockets (108 bytes in sockaddr_un).
func (c *checks) runDir(key, path string) {
	c.absolute(key, path)
	const longest = 107 - len("/fastpath.sock")
	if len(path) > longest {
		c.fail(key, fmt.Sprintf("is %d bytes long, sockets in it allow %d", len(path), longest), "choose a shorter path")
	}
}

// ifname wants what the kernel takes for a device name (dev_valid_name).
func (c *checks) ifname(key, name, fix string) {
	switch {
	case name == "":
		c.fail(key, "is missing", fix)
	case len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n"):
		c.fail(key, fmt.Sprintf("%q is not a name of an interface", name), "at most 15 bytes, no space, slash or colon")
	}
}

// hostPort wants "host:port"; listeners may leave the host empty.
func (c *checks) hostPort(key, v string, needHost bool) {
	host, port, err := net.SplitHostPort(v)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || n < 1 || n > 65535 || (needHost && host == "") {
		c.fail(key, fmt.Sprintf("%q is not host:port", v), "for example 192.0.2.1:7443 or [2001:db8::1]:7443")
	}
}

// subnets wants networks without host bits, none overlapping another one seen.
func (c *checks) subnets(key string, list []netip.Prefix, seen map[string]netip.Prefix) {
	for i, p := range list {
		at := fmt.Sprintf("%s[%d]", key, i)
		if !p.IsValid() {
			c.fail(at, "is empty", "give a subnet such as 192.0.2.0/24")
			continue
		}
		if p != p.Masked() {
			c.fail(at, fmt.Sprintf("%v has host bits set", p), "write "+p.Masked().String())
		}
		for other, q := range seen {
			if p.Overlaps(q) {
				c.fail(at, fmt.Sprintf("%v overlaps %v of %s", p, q, other), "choose separate ranges")
			}
		}
		seen[at] = p
	}
}

// Log says what is logged, and how, to standard error.
type Log struct {
	Level  string `json:"level"`  // debug, info, warn, error
	Format string `json:"format"` // text, json
}

func (l Log) check(c *checks) {
	c.oneOf("log.level", l.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", l.Format, "text", "json")
}
