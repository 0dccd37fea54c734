//go:build race

package clients_test

// raced tells whether the proxy is built with the race detector: as the tests are.
const raced = true
