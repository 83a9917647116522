package ledger

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/vragent/vragent/agent/record"
)

// Every value begins with four bytes of CRC-32C over its bucket, key and
// payload: the library checks the links between pages, not what is in them.
const sumLen = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(bucket []byte, key string, payload []byte) uint32 {
	h := crc32.New(castagnoli)
	fmt.Fprintf(h, "%s\x00%s\x00", bucket, key)
	_, _ = h.Write(payload)
	return h.Sum32()
}

func seal(bucket []byte, key string, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, checksum(bucket, key, payload)), payload...)
}

func unseal(bucket []byte, key string, value []byte) ([]byte, error) {
	if len(value) < sumLen {
		return nil, fmt.Errorf("%d bytes are too short for a record", len(value))
	}
	if binary.BigEndian.Uint32(value) != checksum(bucket, key, value[sumLen:]) {
		return nil, errors.New("checksum does not match")
	}
	return value[sumLen:], nil
}

// writer writes records into a transaction until the first error.
type writer struct {
	tx  *bolt.Tx
	err error
}

func (w *writer) put(bucket []byte, key string, payload []byte) {
	if w.err == nil {
		w.err = w.tx.Bucket(bucket).Put([]byte(key), seal(bucket, key, payload))
	}
}

func (w *writer) json(bucket []byte, key string, v any) {
	payload, err := json.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.put(bucket, key, payload)
}

func (w *writer) forget(bucket []byte, key string) {
	if w.err == nil {
		w.err = w.tx.Bucket(bucket).Delete([]byte(key))
	}
}

func decodeAttachment(key string, payload []byte) (record.Attachment, error) {
	var a record.Attachment
	if err := json.Unmarshal(payload, &a); err != nil {
		return a, err
	}
	if a.Key().String() != key {
		return a, fmt.Errorf("holds attachment %s", a.Key())
	}
	return a, a.Validate()
}

func decodeHost(key string, payload []byte) (record.Host, error) {
	var h record.Host
	if err := json.Unmarshal(payload, &h); err != nil {
		return h, err
	}
	if h.VN != key {
		return h, fmt.Errorf("holds network %q", h.VN)
	}
	for _, a := range h.Addrs {
		if !a.IsValid() {
			return h, errors.New("an address is missing")
		}
	}
	return h, nil
}

func idKey(k record.IDKey) string { return k.Space + "/" + k.Key }

func encodeNumber(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func decodeID(key string, payload []byte) (record.ID, error) {
	space, natural, ok := strings.Cut(key, "/")
	if !ok || space == "" || natural == "" {
		return record.ID{}, errors.New("key is not space/key")
	}
	if len(payload) != 4 || binary.BigEndian.Uint32(payload) == 0 {
		return record.ID{}, errors.New("not a number above 0")
	}
	return record.ID{IDKey: record.IDKey{Space: space, Key: natural}, Number: binary.BigEndian.Uint32(payload)}, nil
}

func resourceKey(k record.ResourceKey) string {
	return strconv.Itoa(int(k.Type)) + "/" + k.Name
}

// encodeResource writes: flags (bit 0: orphan), length of the version, version, body.
func encodeResource(r *record.Resource) []byte {
	b := make([]byte, 0, 1+binary.MaxVarintLen64+len(r.Version)+len(r.Body))
	if r.Orphan {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Version)))
	b = append(b, r.Version...)
	return append(b, r.Body...)
}

func decodeResource(key string, payload []byte) (record.Resource, error) {
	var r record.Resource
	kind, name, ok := strings.Cut(key, "/")
	n, err := strconv.ParseInt(kind, 10, 32)
	if !ok || err != nil || name == "" {
		return r, errors.New("key is not type/name")
	}
	if len(payload) < 2 || payload[0] > 1 {
		return r, errors.New("bad flags")
	}
	size, used := binary.Uvarint(payload[1:])
	rest := payload[1+max(used, 0):]
	if used <= 0 || size > uint64(len(rest)) {
		return r, errors.New("bad length of the version")
	}
	r.ResourceKey = record.ResourceKey{Type: int32(n), Name: name}
	r.Orphan = payload[0] == 1
	r.Version = string(rest[:size])
	r.Body = append([]byte(nil), rest[size:]...) // the page is gone after the transaction
	return r, nil
}
