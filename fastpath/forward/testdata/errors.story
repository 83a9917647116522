# A backend on this node, one on the other, refuse a datagram: the client hears of the
# packet it sent, from the VIP.
backends b1
send c 10.0.0.2:40000 > 10.96.0.10:53 udp len 100 ; unreachable b1
----
n1 b1 receives 10.0.0.2:40000 > 10.0.0.3:5353 UDP ttl 63 len 128
n1 c receives 10.96.0.10 > 10.0.0.2 ICMP unreachable code 3 ttl 63 len 156 about (10.0.0.2:40000 > 10.96.0.10:53 UDP)
counters: n1.b1.rx=+1 n1.b1.tx=+1 n1.c.rx=+1 n1.c.tx=+1 n1.flows=+2

backends b2
send c 10.0.0.2:40001 > 10.96.0.10:53 udp len 100 ; unreachable b2
----
n1 c receives 10.96.0.10 > 10.0.0.2 ICMP unreachable code 3 ttl 62 len 156 about (10.0.0.2:40001 > 10.96.0.10:53 UDP)
n2 b2 receives 10.0.0.2:40001 > 10.0.1.2:5353 UDP ttl 62 len 128
counters: n1.c.rx=+1 n1.c.tx=+1 n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=+2 n2.b2.rx=+1 n2.b2.tx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1 n2.flows=+2

# The client refuses an answer: the backend hears of the packet it sent.
send b2 10.0.1.2:5353 > 10.0.0.2:40001 udp ; unreachable c
----
n1 c receives 10.96.0.10:53 > 10.0.0.2:40001 UDP ttl 62 len 28
n2 b2 receives 10.0.0.2 > 10.0.1.2 ICMP unreachable code 3 ttl 62 len 56 about (10.0.1.2:5353 > 10.0.0.2:40001 UDP)
counters: n1.c.rx=+1 n1.c.tx=+1 n1.eth0.rx=+1 n1.eth0.tx=+1 n2.b2.rx=+1 n2.b2.tx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1

# The same in IPv6.
send c [2001:db8::2]:40000 > [2001:db8:96::a]:8888 tcp S ; unreachable b2
----
n1 c receives 2001:db8:96::a > 2001:db8::2 ICMPv6 unreachable code 4 ttl 62 len 108 about ([2001:db8::2]:40000 > [2001:db8:96::a]:8888 TCP)
n2 b2 receives [2001:db8::2]:40000 > [2001:db8:1::2]:80 TCP S ttl 62 len 60
counters: n1.c.rx=+1 n1.c.tx=+1 n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=+2 n2.b2.rx=+1 n2.b2.tx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1 n2.flows=+2

# A packet that runs out of hops on the other node.
send c 10.0.0.2:1 > 10.0.1.2:9 udp ttl 2
----
n1 c receives 10.0.1.1 > 10.0.0.2 ICMP time exceeded ttl 63 len 56 about (10.0.0.2:1 > 10.0.1.2:9 UDP)
counters: n1.c.rx=+1 n1.c.tx=+1 n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=+2 n2.drop.ttl-expired=+1 n2.eth0.rx=+1 n2.eth0.tx=+1

# Tunnels with a label nobody has, from a stranger, to a pod that is elsewhere, and
# with a source behind another node.
tunnel 192.0.2.2 4711 10.0.1.2:1 > 10.0.0.2:2 udp
tunnel 192.0.2.99 16 10.0.1.2:1 > 10.0.0.2:2 udp
tunnel 192.0.2.2 16 10.0.1.2:1 > 10.0.1.3:2 udp
tunnel 192.0.2.2 16 10.0.0.3:1 > 10.0.0.2:2 udp
----
counters: n1.drop.invalid-label=+1 n1.drop.invalid-source=+1 n1.drop.packet-loop=+1 n1.drop.unknown-peer=+1 n1.eth0.rx=+4

# A label of a pod, and an address that is not its own: told at once.
tunnel 192.0.2.2 33 10.0.1.2:1 > 10.0.0.2:2 tcp S
----
n2 b2 receives 10.0.0.2:2 > 10.0.1.2:1 TCP RA ttl 63 len 40
counters: n1.drop.no-port-map=+1 n1.eth0.rx=+1 n1.eth0.tx=+1 n2.b2.tx=+1 n2.eth0.rx=+1 n2.flows=+2
