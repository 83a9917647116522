package apitest

import (
	"strings"
	"testing"
)

const object = `apiVersion: v1
kind: ConfigMap
metadata: {namespace: default, name: kept}
data: {a: "1"}
`

func TestServer(t *testing.T) {
	s := Start(t)
	s.Apply(t, object+"---\n"+strings.Replace(object, "kept", "other", 1))
	if err := s.Try(strings.Replace(object, "\ndata", "\ndato", 1)); err == nil || !strings.Contains(err.Error(), ".dato") {
		t.Error(err)
	}
	s.Compact(t)
	s.Stop(t)
	if err := s.Try(object); err == nil {
		t.Error("a stopped server answers")
	}
	s.Resume(t)
	s.Delete(t, object)
}
