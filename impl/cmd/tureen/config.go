package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

// settings are the flags that a configuration file sets, by their names.
type settings map[string]any

// loadSettings reads a YAML file of flags: "listen: :8000".
func loadSettings(r io.Reader) (kong.Resolver, error) {
	s := settings{}
	if err := yaml.NewDecoder(r).Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the configuration isn't YAML of the form \"flag: value\": %w", err)
	}
	return s, nil
}

// Validate refuses a name that is no flag's, which is a slip of the pen.
func (s settings) Validate(app *kong.Application) error {
	known := []string{}
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known = append(known, flag.Name)
		}
		return next(nil)
	})
	if err != nil {
		return fmt.Errorf("go through the flags: %w", err)
	}
	for name := range s {
		if !slices.Contains(known, name) {
			return fmt.Errorf("the configuration sets %q, which is no flag", name)
		}
	}
	return nil
}

// Resolve is a flag's value in the file. The environment goes before it.
func (s settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	return s[flag.Name], nil
}
