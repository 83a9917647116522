#!/bin/bash
# Open vSwitch's user space datapath with AF_XDP ports, as a learning switch between two pods.
#
# Tried and left out, because nothing changed for the better: use-need-wakeup=false; tx-flush-interval=50 (a
# batch of 32 is full under load, and idle packets wait); userspace-tso-enable=true, which is accepted, but AF_XDP
# ports neither cut packets nor fill in checksums: with the pods' transmit checksums on, no TCP connection opens.
#
#   ovs.sh up|down PREFIX
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 up|down PREFIX" >&2; exit 2; }
prefix=$2
. "$(dirname "$0")/lib.sh"

export OVS_RUNDIR=$run OVS_LOGDIR=$run OVS_DBDIR=$run

up() {
	command -v ovs-vswitchd >/dev/null || fail "Open vSwitch is not installed (integration/deps.sh bench)"
	pods
	ovsdb-tool create "$run/conf.db" /usr/share/openvswitch/vswitch.ovsschema
	ovsdb-server "$run/conf.db" --remote="punix:$run/db.sock" --unixctl="$run/ovsdb.ctl" \
		--pidfile="$run/ovsdb.pid" --log-file="$run/ovsdb.log" --detach 2>>"$run/errors"
	set_up --no-wait init
	set_up --no-wait set Open_vSwitch . $(settings)
	in_ns "$between" ovs-vswitchd "unix:$run/db.sock" --disable-system --unixctl="$run/vswitchd.ctl" \
		--pidfile="$run/vswitchd.pid" --log-file="$run/vswitchd.log" --detach 2>>"$run/errors"
	set_up add-br br0 -- set bridge br0 datapath_type=netdev fail_mode=standalone
	for port in client server; do
		set_up add-port br0 $port -- set interface $port type=afxdp $(port_settings)
	done
	forwards "see $run/vswitchd.log"
	packages openvswitch-switch
	echo "bridge br0 datapath_type=netdev fail_mode=standalone (NORMAL); ports type=afxdp $(port_settings)"
	echo "Open_vSwitch $(settings)"
	ovs-appctl -t "$run/vswitchd.ctl" dpctl/show | grep -o 'client (.*'
	echo "pods: ethtool -K eth0 tx off (TSO is off with it; native XDP at the other end turns it off anyway)"
}

settings() { echo "other_config:pmd-cpu-mask=$((1 << cpu))"; }

port_settings() { echo "options:xdp-mode=native"; }

set_up() { ovs-vsctl --db="unix:$run/db.sock" --timeout=20 "$@"; }

down() {
	stop "$run/vswitchd.pid" "$run/ovsdb.pid"
	clear_all
}

case $1 in
up) up ;;
down) down ;;
*) fail "up or down?" ;;
esac
