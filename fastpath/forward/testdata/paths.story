# Pods of one node and of two, both families; the host; the outside; SCTP.
send c 10.0.0.2:1 > 10.0.0.3:2 udp ; send c [2001:db8::2]:1 > [2001:db8:1::2]:2 udp
----
n1 b1 receives 10.0.0.2:1 > 10.0.0.3:2 UDP ttl 63 len 28
n2 b2 receives [2001:db8::2]:1 > [2001:db8:1::2]:2 UDP ttl 62 len 48
counters: n1.b1.tx=+1 n1.c.rx=+2 n1.eth0.tx=+1 n1.flows=+4 n2.b2.tx=+1 n2.eth0.rx=+1 n2.flows=+2

send c 10.0.0.2 > 198.51.100.9 ping ; send host 198.51.100.9:53 > 10.0.0.2:9 udp
----
n1 c receives 198.51.100.9:53 > 10.0.0.2:9 UDP ttl 63 len 28
n1 host receives 10.0.0.2 > 198.51.100.9 ICMP echo request id 0 ttl 63 len 28
counters: n1.c.rx=+1 n1.c.tx=+1 n1.flows=+4 n1.host.rx=+1 n1.host.tx=+1

send host 10.0.0.1:7 > 10.0.1.2:80 tcp S ; send b2 10.0.1.2:80 > 10.0.0.1:7 tcp SA
----
n1 host receives 10.0.1.2:80 > 10.0.0.1:7 TCP SA ttl 62 len 40
n2 b2 receives 10.0.0.1:7 > 10.0.1.2:80 TCP S ttl 62 len 40
counters: n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=+2 n1.host.rx=+1 n1.host.tx=+1 n2.b2.rx=+1 n2.b2.tx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1 n2.flows=+2

send c 10.0.0.2:36412 > 10.0.1.3:36412 sctp
----
n2 b3 receives 10.0.0.2:36412 > 10.0.1.3:36412 SCTP ttl 62 len 52
counters: n1.c.rx=+1 n1.eth0.tx=+1 n1.flows=+2 n2.b3.tx=+1 n2.eth0.rx=+1 n2.flows=+2

# A packet too large for the tunnel, and one that runs out of hops on the way.
send c 10.0.0.2:5 > 10.0.1.2:6 udp df len 1460 ; send c 10.0.0.2:5 > 10.0.1.2:33434 udp ttl 1 ; send c 10.0.0.2:5 > 10.0.1.2:33434 udp ttl 2
----
n1 c receives 10.0.0.1 > 10.0.0.2 ICMP unreachable code 4 ttl 64 len 176 about (10.0.0.2:5 > 10.0.1.2:6 UDP)
n1 c receives 10.0.0.1 > 10.0.0.2 ICMP time exceeded ttl 64 len 56 about (10.0.0.2:5 > 10.0.1.2:33434 UDP)
n1 c receives 10.0.1.1 > 10.0.0.2 ICMP time exceeded ttl 63 len 56 about (10.0.0.2:5 > 10.0.1.2:33434 UDP)
counters: n1.c.rx=+3 n1.c.tx=+3 n1.drop.too-big=+1 n1.drop.ttl-expired=+1 n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=+4 n2.drop.ttl-expired=+1 n2.eth0.rx=+1 n2.eth0.tx=+1

# Silence for three minutes: UDP flows are forgotten.
wait 200s
----
counters: n1.flows=-14 n2.flows=-4
