package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode"
)

// remote is a running proxy whose API is called.
type remote struct {
	URL  string `default:"http://127.0.0.1:8000" help:"Where the proxy serves." placeholder:"URL"`
	JSON bool   `help:"Print the API's JSON instead of a table." name:"json"`
}

// remoteTimeout is longer than the API takes for anything.
const remoteTimeout = 15 * time.Second

// call makes a call of the API and returns its document. The error says what the
// proxy says.
func (r *remote) call(ctx context.Context, method, name string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	address := strings.TrimSuffix(r.URL, "/") + "/api/" + name
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no proxy answers at %s: start one with tureen serve, or name another with --url", r.URL)
	case err != nil:
		return nil, unwrapped(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("read the proxy's answer: %w", err)
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return nil, refusal(answer, body)
	}
	return body, nil
}

// unwrapped is a client's error without the address, whose query may hold a key.
func unwrapped(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return fmt.Errorf("ask the proxy: %w", wrapped.Err)
	}
	return err
}

// refusal is a problem as a person reads it.
func refusal(answer *http.Response, body []byte) error {
	var problem struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		return fmt.Errorf("the proxy answers %s", answer.Status)
	}
	return fmt.Errorf("%s: %s", answer.Status, printable(problem.Detail))
}

// printable is a text that does nothing to a terminal.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, s)
}

// table prints rows under their heads, in columns.
func table(w io.Writer, rows [][]string) error {
	const gap = 2
	columns := tabwriter.NewWriter(w, 0, 0, gap, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = printable(cell); cell == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(columns, strings.Join(row, "\t")) // Flush tells
	}
	if err := columns.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// document reads what the API answered.
func document[T any](body []byte) (d T, err error) {
	if err := json.Unmarshal(body, &d); err != nil {
		return d, fmt.Errorf("the proxy's answer isn't the API's: %w", err)
	}
	return d, nil
}
