package api

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// object is one of JSON.
type object = map[string]any

// schemas judges documents by a description's schemas (JSON Schema 2020-12, as
// far as the description uses it; what it doesn't know it refuses).
type schemas struct {
	root object
}

// resolve follows a reference.
func (s schemas) resolve(o object) object {
	ref, ok := o["$ref"].(string)
	if !ok {
		return o
	}
	var at any = s.root
	for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		at = at.(object)[name]
	}
	found, ok := at.(object)
	if !ok {
		panic("a reference leads nowhere: " + ref)
	}
	return s.resolve(found)
}

// check is why a value isn't what a schema says; "" when it is.
func (s schemas) check(schema object, v any) string {
	schema = s.resolve(schema)
	if why := checkType(schema["type"], v); schema["type"] != nil && why != "" {
		return why
	}
	for _, keyword := range slices.Sorted(maps.Keys(schema)) {
		if why := s.judge(schema, keyword, v); why != "" {
			return why
		}
	}
	return ""
}

func (s schemas) judge(schema object, keyword string, v any) string {
	rule := schema[keyword]
	switch keyword {
	case "description", "example", "type", "items", "properties": // what isn't judged by others is by them
		return ""
	case "enum":
		if !slices.ContainsFunc(rule.([]any), func(one any) bool { return reflect.DeepEqual(one, v) }) {
			return fmt.Sprintf("%v is none of %v", v, rule)
		}
		return ""
	case "const":
		if !reflect.DeepEqual(rule, v) {
			return fmt.Sprintf("%v isn't %v", v, rule)
		}
		return ""
	case "not":
		if s.check(rule.(object), v) == "" {
			return fmt.Sprintf("%v is %v", v, rule)
		}
		return ""
	}
	switch v := v.(type) {
	case string:
		return checkString(keyword, rule, v)
	case float64:
		return checkNumber(keyword, rule, v)
	case object:
		return s.checkObject(schema, keyword, v)
	}
	return ""
}

func checkType(rule, v any) string {
	names, ok := rule.([]any)
	if !ok {
		names = []any{rule}
	}
	for _, name := range names {
		f, number := v.(float64)
		_, text := v.(string)
		_, truth := v.(bool)
		_, list := v.([]any)
		_, record := v.(object)
		is, known := map[any]bool{
			"null": v == nil, "number": number, "integer": number && f == math.Trunc(f), "string": text, "boolean": truth,
			"array": list, "object": record,
		}[name]
		if !known {
			return fmt.Sprintf("unknown type %v", name)
		}
		if is {
			return ""
		}
	}
	return fmt.Sprintf("%v isn't of type %v", v, rule)
}

func checkString(keyword string, rule any, v string) string {
	ok := false
	switch keyword {
	case "pattern":
		ok = regexp.MustCompile(rule.(string)).MatchString(v)
	case "minLength":
		ok = float64(utf8.RuneCountInString(v)) >= rule.(float64)
	case "maxLength":
		ok = float64(utf8.RuneCountInString(v)) <= rule.(float64)
	case "format":
		_, err := time.Parse(time.RFC3339, v)
		ok = rule == "date-time" && err == nil
	}
	if !ok {
		return fmt.Sprintf("%q fails %s %v", v, keyword, rule)
	}
	return ""
}

func checkNumber(keyword string, rule any, v float64) string {
	bound, ok := rule.(float64), false
	switch keyword {
	case "minimum":
		ok = v >= bound
	case "maximum":
		ok = v <= bound
	case "exclusiveMinimum":
		ok = v > bound
	}
	if !ok {
		return fmt.Sprintf("%v fails %s %v", v, keyword, rule)
	}
	return ""
}

func (s schemas) checkObject(schema object, keyword string, v object) string {
	properties, _ := schema["properties"].(object)
	switch keyword {
	case "required":
		for _, name := range schema["required"].([]any) {
			if _, ok := v[name.(string)]; !ok {
				return fmt.Sprintf("%v lacks %s", v, name)
			}
		}
	case "additionalProperties":
		for name := range v {
			if _, ok := properties[name]; !ok {
				return fmt.Sprintf("%v has %s, which isn't described", v, name)
			}
		}
	default:
		return "unknown keyword " + keyword
	}
	return ""
}

// walk is check for a value and all that it holds.
func (s schemas) walk(schema object, v any) string {
	schema = s.resolve(schema)
	if why := s.check(schema, v); why != "" {
		return why
	}
	switch v := v.(type) {
	case []any:
		items, ok := schema["items"].(object)
		if !ok {
			return "an array whose items aren't described"
		}
		for _, item := range v {
			if why := s.walk(items, item); why != "" {
				return why
			}
		}
	case object:
		properties, _ := schema["properties"].(object)
		for name, value := range v {
			if p, ok := properties[name].(object); ok {
				if why := s.walk(p, value); why != "" {
					return name + ": " + why
				}
			}
		}
	}
	return ""
}

// TestSchemasJudge: the judge itself can tell.
func TestSchemasJudge(t *testing.T) {
	schema := object{
		"type": "object", "required": []any{"a"}, "additionalProperties": false,
		"properties": object{
			"a": object{"type": "string", "pattern": "^x", "not": object{"enum": []any{"xx"}}},
			"b": object{"type": []any{"integer", "null"}, "minimum": 2.0},
			"c": object{"type": "array", "items": object{"enum": []any{"one"}}},
		},
	}
	tests := []struct {
		v  object
		ok bool
	}{
		{object{"a": "x"}, true},
		{object{"a": "x", "b": nil, "c": []any{"one"}}, true},
		{object{"a": "x", "b": 2.0}, true},
		{object{}, false},
		{object{"a": 1.0}, false},
		{object{"a": "y"}, false},
		{object{"a": "xx"}, false},
		{object{"a": "x", "b": 1.0}, false},
		{object{"a": "x", "b": 2.5}, false},
		{object{"a": "x", "c": []any{"two"}}, false},
		{object{"a": "x", "d": 1.0}, false},
	}
	for _, test := range tests {
		if why := (schemas{}).walk(schema, test.v); (why == "") != test.ok {
			t.Errorf("%v: %q", test.v, why)
		}
	}
}
