package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"sigs.k8s.io/yaml"

	"github.com/vragent/vragent/conf"
)

// askTimeout bounds one question to the API.
const askTimeout = 10 * time.Second

func askFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		configFlag(),
		&cli.StringFlag{Name: "api", Usage: "`URL` of the controller's REST API (default: as configured)", EnvVars: []string{"VRCONTROLLER_API"}},
		outputFlag(),
	}, more...)
}

// apiURL is the flag, else where the configured controller listens.
func apiURL(c *cli.Context) (string, error) {
	if u := c.String("api"); u != "" {
		if !strings.Contains(u, "://") {
			u = "http://" + u
		}
		if p, err := url.Parse(u); err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" {
			return "", usage("--api %q is no URL: want http://ADDRESS:PORT", u)
		}
		return strings.TrimRight(u, "/"), nil
	}
	listen := "127.0.0.1:8082"
	config, err := conf.LoadController(c.String("config"))
	switch {
	case err == nil:
		listen = config.Listen.API
	case c.IsSet("config") || !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// ask reads one path of the API into v.
func ask(c *cli.Context, path string, v any) error { return request(c, http.MethodGet, path, v) }

// request is any request of the API, with its answer in v.
func request(c *cli.Context, method, path string, v any) error {
	if o := c.String("output"); !slices.Contains([]string{"table", "json", "yaml"}, o) {
		return usage("output %q is unknown: want table, json or yaml", o)
	}
	base, err := apiURL(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, askTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, base+path, nil)
	if err != nil {
		return fmt.Errorf("ask the controller: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return silence(base, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return silence(base, err)
	}
	if answer.StatusCode != http.StatusOK {
		return refusal(answer.Status, text)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("the controller's answer to %s: %w", path, err)
	}
	return nil
}

// refusal is the controller's sentence, if it says one.
func refusal(status string, text []byte) error {
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(text, &said) == nil && said.Error != "" {
		return fmt.Errorf("the controller answers %s: %s", status, said.Error)
	}
	return fmt.Errorf("the controller answers %s: %s", status, strings.TrimSpace(string(text)))
}

// silence says why the controller does not answer and what to do about it.
func silence(base string, err error) error {
	fix := "is vrcontroller run running there? If its API is elsewhere, say --api URL"
	var failed *url.Error
	if errors.As(err, &failed) {
		if failed.Timeout() {
			fix = "the process there is stopped or stuck, or a firewall is between: look at its log, or say --api URL"
		}
		err = failed.Err // the rest repeats the address
	}
	return &coded{ExitUnreachable, fmt.Errorf("the controller does not answer on %s: %w (%s)", base, err, fix)}
}

// show prints v in the format of the -o flag; table does the people's one.
func show(c *cli.Context, out io.Writer, v any, table func(io.Writer)) error {
	var b []byte
	var err error
	switch c.String("output") {
	case "json":
		b, err = json.MarshalIndent(v, "", "  ")
		b = append(b, '\n')
	case "yaml":
		b, err = yaml.Marshal(v)
	default:
		table(out)
		return nil
	}
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}
