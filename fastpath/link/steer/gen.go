package steer

// Building needs no clang: what it makes is committed. One object serves every
// little-endian machine. The headers are those of linux-libc-dev and libbpf-dev.
//
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -go-package steer -target bpfel -cflags "-O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" -type cause -type tunnel -type exit -type seat -type round -type key4 -type key6 -type entry -type entry6 -type hop -type hop_kind -type verdict -type translation steer steer.c
