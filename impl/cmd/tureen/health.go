package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// health asks a running proxy whether it answers.
type health struct {
	URL string `default:"http://127.0.0.1:8000" help:"Where the proxy serves." placeholder:"URL"`
}

// healthTimeout is well under the intervals at which engines ask.
const healthTimeout = 3 * time.Second

// Run asks once.
func (h *health) Run() error {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", h.URL, answer.Status)
	}
	return nil
}
