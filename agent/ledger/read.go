package ledger

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"

	"github.com/vragent/vragent/agent/record"
)

// readAll reads every record and checks each one's sum.
func readAll(db *bolt.DB, node string) (*record.Contents, error) {
	c := &record.Contents{}
	err := db.View(func(tx *bolt.Tx) error {
		if err := checkMeta(tx, node); err != nil {
			return err
		}
		return errors.Join(
			each(tx, bucketAttachments, gather(&c.Attachments, decodeAttachment)),
			each(tx, bucketHosts, gather(&c.Hosts, decodeHost)),
			each(tx, bucketIDs, gather(&c.IDs, decodeID)),
			each(tx, bucketResources, gather(&c.Resources, decodeResource)),
		)
	})
	return c, err
}

func checkMeta(tx *bolt.Tx, node string) error {
	meta := map[string]string{}
	err := each(tx, bucketMeta, func(key string, payload []byte) error {
		meta[key] = string(payload)
		return nil
	})
	switch {
	case err != nil:
		return err
	case meta["schema"] != schema:
		return fmt.Errorf("it has schema %q, this program writes %q: use the program that wrote it", meta["schema"], schema)
	case meta["node"] != node:
		return fmt.Errorf("it belongs to node %q, this is %q", meta["node"], node)
	}
	return nil
}

func gather[T any](list *[]T, decode func(string, []byte) (T, error)) func(string, []byte) error {
	return func(key string, payload []byte) error {
		v, err := decode(key, payload)
		if err == nil {
			*list = append(*list, v)
		}
		return err
	}
}

// each visits the records of a bucket.
func each(tx *bolt.Tx, bucket []byte, visit func(key string, payload []byte) error) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return fmt.Errorf("damaged: no %s in it", bucket)
	}
	return b.ForEach(func(k, v []byte) error {
		key := string(k)
		payload, err := unseal(bucket, key, v)
		if err == nil {
			err = visit(key, payload)
		}
		if err != nil {
			return fmt.Errorf("damaged: %s %q: %w", bucket, key, err)
		}
		return nil
	})
}

// holder names the process that has the file locked, as /proc/locks tells:
//
//	1: FLOCK  ADVISORY  WRITE 4711 fd:01:131077 0 EOF
func holder(f *os.File) string {
	const unknown = "another process"
	info, err := f.Stat()
	if err != nil {
		return unknown
	}
	inode := fmt.Sprintf(":%d", info.Sys().(*syscall.Stat_t).Ino)
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(locks)) {
		f := strings.Fields(line)
		if len(f) >= 6 && f[1] == "FLOCK" && strings.HasSuffix(f[5], inode) && f[4] != "0" && f[4] != "-1" {
			return "process " + f[4]
		}
	}
	return unknown
}
