package api

import (
	"bytes"
	_ "embed" // the description
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"tureen/impl/problem"
)

// description is the calls and the streams' paths in OpenAPI 3.1. It is written
// by hand; the tests hold it against what the handlers do.
//
//go:embed openapi.json
var description []byte

// describe completes the description with what this process has (API-9), where it
// leaves room for that.
func describe(features []string, times map[string]time.Duration) []byte {
	seconds := map[string]float64{}
	for name, t := range times {
		seconds[name] = t.Seconds()
	}
	d := bytes.Replace(description, []byte(`"x-features": []`), stated("x-features", features), 1)
	return bytes.Replace(d, []byte(`"x-times": {}`), stated("x-times", seconds), 1)
}

// stated is a member of the description's info.
func stated(name string, value any) []byte {
	b, err := json.MarshalIndent(value, "    ", "  ")
	if err != nil {
		panic(err) // names and numbers
	}
	return fmt.Appendf(nil, "%q: %s", name, b)
}

func (a *API) describeItself(*http.Request, values) (status int, body any, refused *problem.Problem) {
	return http.StatusOK, a.description, nil
}
