package api

import (
	_ "embed" // the description
	"encoding/json"
	"net/http"
	"time"

	"tureen/impl/problem"
)

// description is the calls and the streams' paths in OpenAPI 3.1. It is written
// by hand; the tests hold it against what the handlers do.
//
//go:embed openapi.json
var description []byte

// describe completes the description with what this process has (API-9).
func describe(features []string, times map[string]time.Duration) []byte {
	var d map[string]any
	if err := json.Unmarshal(description, &d); err != nil {
		panic(err) // it is part of the program
	}
	seconds := map[string]float64{}
	for name, t := range times {
		seconds[name] = t.Seconds()
	}
	info := d["info"].(map[string]any)
	info["x-features"], info["x-times"] = features, seconds
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		panic(err) // it came from JSON
	}
	return append(b, '\n')
}

func (a *API) describeItself(*http.Request, values) (status int, body any, refused *problem.Problem) {
	return http.StatusOK, a.description, nil
}
