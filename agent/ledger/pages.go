package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The library trusts its file: an empty one is made anew, a length or offset
// that is wrong sends it beyond the file's end or through its own memory. So
// every page is looked at before the library sees it. The layout is bbolt's,
// version 2, in host byte order. Every page has a header of 16 bytes:
//
//	page number 8 | flags 2 | count 2 | overflow 4: how many more pages belong to it
//
// pages 0 and 1 then say, and the valid one with the higher transaction counts:
//
//	magic 4 | version 4 | page size 4 | flags 4 | root 16 | freelist 8 | pages 8 | transaction 8 | FNV-1a of these 56 bytes 8
const (
	headerLen  = 16
	elementLen = 16
	bucketLen  = 16 // root page 8 | sequence 8
	metaLen    = 64
	metaSum    = 56
	metaMark   = 0xED0CDAED
	metaFormat = 2

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	elementIsBucket = 0x01

	maxDepth = 32
)

type meta struct {
	pageSize, pages, root, freelist, tx uint64
}

// pages walks the pages of one file.
type pages struct {
	file []byte
	meta meta
	used []bool // by page number
}

// checkPages reads the whole file and checks that every offset and length in it
// stays in bounds, keys are in order and every page has one use.
func checkPages(f *os.File) error {
	file, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return err
	}
	if len(file) == 0 {
		return errors.New("the file is empty: it was truncated")
	}
	m, ok := newestMeta(file)
	if !ok {
		return errors.New("the file does not begin as a ledger does: it is damaged or not a ledger")
	}
	if need := m.pages * m.pageSize; need > uint64(len(file)) {
		return fmt.Errorf("the file has %d bytes of %d: it was truncated", len(file), need)
	}
	p := &pages{file: file, meta: m, used: make([]bool, m.pages)}
	p.used[0], p.used[1] = true, true
	err = p.tree(m.root, nil, nil, 0)
	if err == nil {
		err = p.freelist()
	}
	if err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	return nil
}

func newestMeta(file []byte) (newest meta, ok bool) {
	for size := uint64(1 << 9); size <= 1<<16; size <<= 1 {
		for _, at := range []uint64{headerLen, size + headerLen} {
			if at+metaLen > uint64(len(file)) {
				continue
			}
			if m, valid := parseMeta(file[at : at+metaLen]); valid && m.pageSize == size && (!ok || m.tx > newest.tx) {
				newest, ok = m, true
			}
		}
	}
	return newest, ok
}

func parseMeta(b []byte) (meta, bool) {
	h := fnv.New64a()
	_, _ = h.Write(b[:metaSum])
	m := meta{
		pageSize: uint64(binary.NativeEndian.Uint32(b[8:])),
		root:     binary.NativeEndian.Uint64(b[16:]),
		freelist: binary.NativeEndian.Uint64(b[32:]),
		pages:    binary.NativeEndian.Uint64(b[40:]),
		tx:       binary.NativeEndian.Uint64(b[48:]),
	}
	return m, binary.NativeEndian.Uint32(b) == metaMark && binary.NativeEndian.Uint32(b[4:]) == metaFormat &&
		binary.NativeEndian.Uint64(b[metaSum:]) == h.Sum64() && m.pages > 2 && m.pages < 1<<32
}

// page claims a page with its overflow and returns all its bytes.
func (p *pages) page(id uint64) ([]byte, error) {
	if id >= p.meta.pages {
		return nil, fmt.Errorf("page %d of %d", id, p.meta.pages)
	}
	at := id * p.meta.pageSize
	more := uint64(binary.NativeEndian.Uint32(p.file[at+12:]))
	if binary.NativeEndian.Uint64(p.file[at:]) != id || id+more >= p.meta.pages {
		return nil, fmt.Errorf("page %d: wrong header", id)
	}
	for i := id; i <= id+more; i++ {
		if p.used[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		p.used[i] = true
	}
	return p.file[at : at+(more+1)*p.meta.pageSize], nil
}

// tree walks a bucket's pages from the root page id. Keys must lie in [low, high).
func (p *pages) tree(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return errors.New("the pages go in circles")
	}
	b, err := p.page(id)
	if err != nil {
		return err
	}
	if err := p.elements(b, low, high, depth); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements walks a page, which may also lie inside a value (a small bucket).
func (p *pages) elements(b, low, high []byte, depth int) error {
	if len(b) < headerLen {
		return errors.New("cut")
	}
	flags := binary.NativeEndian.Uint16(b[8:])
	count := int(binary.NativeEndian.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf || flags == flagBranch && count == 0 {
		return fmt.Errorf("flags %#x, %d elements", flags, count)
	}
	if headerLen+count*elementLen > len(b) {
		return fmt.Errorf("%d elements do not fit", count)
	}
	previous := low
	for i := range count {
		e, err := element(b, i, flags)
		if err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		if order := bytes.Compare(e.key, previous); order < 0 || order == 0 && i > 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return fmt.Errorf("element %d: out of order", i)
		}
		previous = e.key
		end := high
		if i+1 < int(binary.NativeEndian.Uint16(b[10:])) && flags == flagBranch {
			next, err := element(b, i+1, flags)
			if err != nil {
				return err
			}
			end = next.key
		}
		if err := p.follow(e, flags, end, depth); err != nil {
			return err
		}
	}
	return nil
}

// follow goes down from an element: to a branch's child, whose keys are below
// high, or into a bucket.
func (p *pages) follow(e entry, flags uint16, high []byte, depth int) error {
	if flags == flagBranch {
		return p.tree(e.child, e.key, high, depth+1)
	}
	if !e.bucket {
		return nil
	}
	if len(e.value) < bucketLen {
		return errors.New("bucket is cut")
	}
	if root := binary.NativeEndian.Uint64(e.value); root != 0 {
		return p.tree(root, nil, nil, depth+1)
	}
	return p.elements(e.value[bucketLen:], nil, nil, depth+1)
}

// entry is an element of a page: of a branch a key and a child page, of a leaf
// a key and a value.
type entry struct {
	key, value []byte
	child      uint64
	bucket     bool
}

// element reads one. Branch: offset 4 | key length 4 | child 8. Leaf: flags 4 |
// offset 4 | key length 4 | value length 4. Offsets count from the element.
func element(b []byte, i int, flags uint16) (entry, error) {
	at := headerLen + i*elementLen
	word := func(n int) uint64 { return uint64(binary.NativeEndian.Uint32(b[at+n:])) }
	var e entry
	var offset, keyLen, valueLen uint64
	if flags == flagBranch {
		offset, keyLen = word(0), word(4)
		e.child = binary.NativeEndian.Uint64(b[at+8:])
	} else {
		offset, keyLen, valueLen = word(4), word(8), word(12)
		e.bucket = word(0)&elementIsBucket != 0
	}
	start := uint64(at) + offset
	if keyLen == 0 || offset < elementLen || start+keyLen+valueLen > uint64(len(b)) {
		return e, errors.New("out of bounds")
	}
	e.key = b[start : start+keyLen]
	e.value = b[start+keyLen : start+keyLen+valueLen]
	return e, nil
}

// freelist checks that every page is either in use or free. Its count is behind
// the header when it does not fit in there.
func (p *pages) freelist() error {
	b, err := p.page(p.meta.freelist)
	if err != nil {
		return fmt.Errorf("list of free pages: %w", err)
	}
	count, list := uint64(binary.NativeEndian.Uint16(b[10:])), b[headerLen:]
	if count == 0xffff {
		count, list = binary.NativeEndian.Uint64(list), list[8:]
	}
	if binary.NativeEndian.Uint16(b[8:]) != flagFreelist || count > uint64(len(list)/8) {
		return errors.New("list of free pages: wrong header")
	}
	for i := range count {
		id := binary.NativeEndian.Uint64(list[i*8:])
		if id >= p.meta.pages || p.used[id] {
			return fmt.Errorf("page %d is free and in use", id)
		}
		p.used[id] = true
	}
	for id, used := range p.used {
		if !used {
			return fmt.Errorf("page %d is neither free nor in use", id)
		}
	}
	return nil
}
