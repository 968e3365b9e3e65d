package stream

import (
	"errors"
	"io"
)

type (
	Reader struct{}
	Writer struct{}
)

var errTODO = errors.New("not written yet")

func NewReader(r io.Reader) *Reader                           { return &Reader{} }
func (r *Reader) Next() (*Command, error)                     { return nil, errTODO }
func (r *Reader) NextRun() ([]byte, error)                    { return nil, errTODO }
func (r *Reader) Identity() (Identity, error)                 { return Identity{}, errTODO }
func (r *Reader) Version() uint32                             { return 0 }
func (r *Reader) Stats() Stats                                { return Stats{} }
func (r *Reader) Path() string                                { return "" }
func RewriteHead(r io.Reader, id Identity) (io.Reader, error) { return nil, errTODO }
func NewWriter(w io.Writer, version uint32) *Writer           { return &Writer{} }
func (w *Writer) Write(c *Command) error                      { return errTODO }
func (w *Writer) Close() error                                { return errTODO }
func MeasureMetadata(r *Reader) (int64, error)                { return 0, errTODO }
func Verify(r io.Reader) (Stats, Identity, error)             { return Stats{}, Identity{}, errTODO }
func Dump(w io.Writer, r *Reader) error                       { return errTODO }
func DumpJSON(w io.Writer, r *Reader) error                   { return errTODO }
