// Package glaciertest is a vault service for tests.
package glaciertest
