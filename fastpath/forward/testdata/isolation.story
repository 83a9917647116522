# D begins nothing to the isolated network: not on its node, not on the other, and not
# by a service. The sender is told at once.
networks
send c 10.0.0.2:1 > 10.0.0.130:80 tcp S ; send c 10.0.0.2:1 > 10.0.1.130:80 tcp S ; send c 10.0.0.2:1 > 10.96.0.20:80 tcp S
send c 10.0.0.2:1 > 10.0.0.130:53 udp ; send c [2001:db8::2]:7 > 2001:db8:1::130 ping
flows n1
----
n1 c receives 10.0.0.130:80 > 10.0.0.2:1 TCP RA ttl 64 len 40
n1 c receives 10.0.1.130:80 > 10.0.0.2:1 TCP RA ttl 64 len 40
n1 c receives 10.96.0.20:80 > 10.0.0.2:1 TCP RA ttl 64 len 40
n1 c receives 10.0.0.1 > 10.0.0.2 ICMP unreachable code 13 ttl 64 len 56 about (10.0.0.2:1 > 10.0.0.130:53 UDP)
n1 c receives fe80::1 > 2001:db8::2 ICMPv6 unreachable code 1 ttl 64 len 96 about (2001:db8::2 > 2001:db8:1::130 ICMPv6)
counters: n1.c.rx=+5 n1.c.tx=+5 n1.drop.isolated=+5

# The isolated network reaches D, on both nodes, and its services; replies come back.
send i1 10.0.0.130:1 > 10.0.0.2:80 tcp S ; send c 10.0.0.2:80 > 10.0.0.130:1 tcp SA ; send i1 10.0.0.130:1 > 10.0.0.2:80 tcp A
send i1 10.0.0.130:2 > 10.0.1.2:80 tcp S ; send b2 10.0.1.2:80 > 10.0.0.130:2 tcp SA ; send i1 10.0.0.130:2 > 10.0.1.2:80 tcp A
send i1 [2001:db8::130]:7 > 2001:db8:1::2 ping ; send b2 2001:db8:1::2 > [2001:db8::130]:7 pong
send i1 10.0.0.130:1 > 10.96.0.10:53 udp
----
n1 b1 receives 10.0.0.130:1 > 10.0.0.3:5353 UDP ttl 63 len 28
n1 c receives 10.0.0.130:1 > 10.0.0.2:80 TCP S ttl 63 len 40
n1 c receives 10.0.0.130:1 > 10.0.0.2:80 TCP A ttl 63 len 40
n1 i1 receives 10.0.0.2:80 > 10.0.0.130:1 TCP SA ttl 63 len 40
n1 i1 receives 10.0.1.2:80 > 10.0.0.130:2 TCP SA ttl 62 len 40
n1 i1 receives 2001:db8:1::2 > 2001:db8::130 ICMPv6 echo reply id 7 ttl 62 len 48
n2 b2 receives 10.0.0.130:2 > 10.0.1.2:80 TCP S ttl 62 len 40
n2 b2 receives 10.0.0.130:2 > 10.0.1.2:80 TCP A ttl 62 len 40
n2 b2 receives 2001:db8::130 > 2001:db8:1::2 ICMPv6 echo request id 7 ttl 62 len 48
counters: n1.b1.tx=+1 n1.c.rx=+1 n1.c.tx=+2 n1.eth0.rx=+2 n1.eth0.tx=+3 n1.flows=+8 n1.i1.rx=+6 n1.i1.tx=+3 n2.b2.rx=+2 n2.b2.tx=+3 n2.eth0.rx=+3 n2.eth0.tx=+2 n2.flows=+4

# And itself, by its service: the member is on the other node.
send i1 10.0.0.130:3 > 10.96.0.20:80 tcp S ; send i2 10.0.1.130:8080 > 10.0.0.130:3 tcp SA
----
n1 i1 receives 10.96.0.20:80 > 10.0.0.130:3 TCP SA ttl 62 len 40
n2 i2 receives 10.0.0.130:3 > 10.0.1.130:8080 TCP S ttl 62 len 40
counters: n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=+2 n1.i1.rx=+1 n1.i1.tx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1 n2.flows=+2 n2.i2.rx=+1 n2.i2.tx=+1

# The host reaches it on both nodes and by the service, and is answered.
send host 10.0.0.1:1 > 10.0.0.130:80 tcp S ; send i1 10.0.0.130:80 > 10.0.0.1:1 tcp SA
send host 10.0.0.1:1 > 10.0.1.130:80 tcp S ; send i2 10.0.1.130:80 > 10.0.0.1:1 tcp SA
send host 10.0.0.1:9 > 10.96.0.20:80 tcp S
----
n1 host receives 10.0.0.130:80 > 10.0.0.1:1 TCP SA ttl 63 len 40
n1 host receives 10.0.1.130:80 > 10.0.0.1:1 TCP SA ttl 62 len 40
n1 i1 receives 10.0.0.1:1 > 10.0.0.130:80 TCP S ttl 63 len 40
n2 i2 receives 10.0.0.1:1 > 10.0.1.130:80 TCP S ttl 62 len 40
n2 i2 receives 10.0.0.1:9 > 10.0.1.130:8080 TCP S ttl 62 len 40
counters: n1.eth0.rx=+1 n1.eth0.tx=+2 n1.flows=+6 n1.host.rx=+3 n1.host.tx=+2 n1.i1.rx=+1 n1.i1.tx=+1 n2.eth0.rx=+2 n2.eth0.tx=+1 n2.flows=+4 n2.i2.rx=+1 n2.i2.tx=+2

# What the host passes on for pods it does not reach, nor for a VIP that comes back to it; for a
# client outside it does.
send host 10.0.0.2:1 > 10.0.0.130:80 tcp S ; send host 10.0.1.2:1 > 10.0.1.130:53 udp ; send host 10.0.1.2:1 > 10.96.0.20:80 tcp S
send host 10.96.0.10:1 > 10.0.0.130:80 tcp S ; send host [2001:db8:1::2]:7 > 2001:db8::130 ping
send host 198.51.100.9:1 > 10.96.0.20:80 tcp S
----
n1 host receives 10.0.0.130:80 > 10.0.0.2:1 TCP RA ttl 64 len 40
n1 host receives 169.254.1.1 > 10.0.1.2 ICMP unreachable code 13 ttl 64 len 56 about (10.0.1.2:1 > 10.0.1.130:53 UDP)
n1 host receives 10.96.0.20:80 > 10.0.1.2:1 TCP RA ttl 64 len 40
n1 host receives 10.0.0.130:80 > 10.96.0.10:1 TCP RA ttl 64 len 40
n1 host receives fe80::1 > 2001:db8:1::2 ICMPv6 unreachable code 1 ttl 64 len 96 about (2001:db8:1::2 > 2001:db8::130 ICMPv6)
n1 i1 receives 198.51.100.9:1 > 10.0.0.130:8080 TCP S ttl 63 len 40
counters: n1.drop.isolated=+5 n1.flows=+2 n1.host.rx=+6 n1.host.tx=+5 n1.i1.tx=+1

# What comes from the fabric was decided by its sender's node.
tunnel 192.0.2.2 17 10.0.1.2:1 > 10.0.0.130:80 tcp S
----
n1 i1 receives 10.0.1.2:1 > 10.0.0.130:80 TCP S ttl 63 len 40
counters: n1.eth0.rx=+1 n1.flows=+2 n1.i1.tx=+1

# A reply whose flow is not here waits; nobody is reset.
send c 10.0.0.2:80 > 10.0.0.130:99 tcp SA
----
counters: n1.c.rx=+1 n1.drop.no-flow=+1

# While it is not isolated, D opens connections; they end, told, when it is again. Those
# in the allowed direction go on.
isolated off
send c 10.0.0.2:5 > 10.0.0.130:80 tcp S ; send i1 10.0.0.130:80 > 10.0.0.2:5 tcp SA ; send c 10.0.0.2:5 > 10.0.0.130:80 tcp A
send c 10.0.0.2:6 > 10.0.1.130:80 tcp S ; send i2 10.0.1.130:80 > 10.0.0.2:6 tcp SA ; send c 10.0.0.2:6 > 10.0.1.130:80 tcp A
send c 10.0.0.2:7 > 10.96.0.20:80 tcp S ; send c 10.0.0.2:8 > 10.0.0.130:53 udp ; send c 10.0.0.2:9 > 10.0.0.130:53 udp
----
n1 c receives 10.0.0.130:80 > 10.0.0.2:5 TCP SA ttl 63 len 40
n1 c receives 10.0.1.130:80 > 10.0.0.2:6 TCP SA ttl 62 len 40
n1 i1 receives 10.0.0.2:5 > 10.0.0.130:80 TCP S ttl 63 len 40
n1 i1 receives 10.0.0.2:5 > 10.0.0.130:80 TCP A ttl 63 len 40
n1 i1 receives 10.0.0.2:8 > 10.0.0.130:53 UDP ttl 63 len 28
n1 i1 receives 10.0.0.2:9 > 10.0.0.130:53 UDP ttl 63 len 28
n2 i2 receives 10.0.0.2:6 > 10.0.1.130:80 TCP S ttl 62 len 40
n2 i2 receives 10.0.0.2:6 > 10.0.1.130:80 TCP A ttl 62 len 40
n2 i2 receives 10.0.0.2:7 > 10.0.1.130:8080 TCP S ttl 62 len 40
counters: n1.c.rx=+7 n1.c.tx=+2 n1.eth0.rx=+1 n1.eth0.tx=+3 n1.flows=+10 n1.i1.rx=+1 n1.i1.tx=+4 n2.eth0.rx=+3 n2.eth0.tx=+1 n2.flows=+4 n2.i2.rx=+1 n2.i2.tx=+3

isolated on
send c 10.0.0.2:5 > 10.0.0.130:80 tcp A ; send c 10.0.0.2:6 > 10.0.1.130:80 tcp A ; send c 10.0.0.2:7 > 10.96.0.20:80 tcp A
send c 10.0.0.2:8 > 10.0.0.130:53 udp
send i1 10.0.0.130:1 > 10.0.0.2:80 tcp A ; send c 10.0.0.2:80 > 10.0.0.130:1 tcp A
send i1 10.0.0.130:2 > 10.0.1.2:80 tcp A ; send b2 10.0.1.2:80 > 10.0.0.130:2 tcp A
----
n1 c receives 10.0.0.130:80 > 10.0.0.2:5 TCP R ttl 64 len 40
n1 c receives 10.0.1.130:80 > 10.0.0.2:6 TCP R ttl 64 len 40
n1 c receives 10.96.0.20:80 > 10.0.0.2:7 TCP R ttl 64 len 40
n1 c receives 10.0.0.1 > 10.0.0.2 ICMP unreachable code 13 ttl 64 len 56 about (10.0.0.2:8 > 10.0.0.130:53 UDP)
n1 c receives 10.0.0.130:1 > 10.0.0.2:80 TCP A ttl 63 len 40
n1 i1 receives 10.0.0.2:80 > 10.0.0.130:1 TCP A ttl 63 len 40
n1 i1 receives 10.0.1.2:80 > 10.0.0.130:2 TCP A ttl 62 len 40
n2 b2 receives 10.0.0.130:2 > 10.0.1.2:80 TCP A ttl 62 len 40
counters: n1.c.rx=+5 n1.c.tx=+5 n1.drop.isolated=+4 n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=-8 n1.i1.rx=+2 n1.i1.tx=+2 n2.b2.rx=+1 n2.b2.tx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1

# A flow of which only replies come ends, too: what comes then is a flow of the other.
send i1 10.0.0.130:53 > 10.0.0.2:9 udp
wait 6s
send i1 10.0.0.130:53 > 10.0.0.2:9 udp ; send c 10.0.0.2:9 > 10.0.0.130:53 udp
----
n1 c receives 10.0.0.130:53 > 10.0.0.2:9 UDP ttl 63 len 28
n1 c receives 10.0.0.130:53 > 10.0.0.2:9 UDP ttl 63 len 28
n1 i1 receives 10.0.0.2:9 > 10.0.0.130:53 UDP ttl 63 len 28
counters: n1.c.rx=+1 n1.c.tx=+2 n1.i1.rx=+2 n1.i1.tx=+1
