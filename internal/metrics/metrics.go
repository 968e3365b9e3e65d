// Package metrics writes how things stand with jobs for Prometheus.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/buttersink/buttersink/internal/runner"
)

// Write writes a text file for node_exporter's textfile collector.
func Write(path string, s *runner.Status) error {
	return prometheus.WriteToTextfile(path, prometheus.NewRegistry())
}
