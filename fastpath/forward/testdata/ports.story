# One VIP, two ports, each with backends of its own.
backends tcp b1
backends udp b2
send c 10.0.0.2:40000 > 10.96.0.10:8888 tcp S ; send c 10.0.0.2:40000 > 10.96.0.10:53 udp
----
n1 b1 receives 10.0.0.2:40000 > 10.0.0.3:80 TCP S ttl 63 len 40
n2 b2 receives 10.0.0.2:40000 > 10.0.1.2:5353 UDP ttl 62 len 28
counters: n1.b1.tx=+1 n1.c.rx=+2 n1.eth0.tx=+1 n1.flows=+4 n2.b2.tx=+1 n2.eth0.rx=+1 n2.flows=+2

send b1 10.0.0.3:80 > 10.0.0.2:40000 tcp SA ; send b2 10.0.1.2:5353 > 10.0.0.2:40000 udp
flows n1
----
n1 c receives 10.96.0.10:8888 > 10.0.0.2:40000 TCP SA ttl 63 len 40
n1 c receives 10.96.0.10:53 > 10.0.0.2:40000 UDP ttl 62 len 28
n1 K(16) 10.0.0.2:40000 > 10.96.0.10:53 UDP F nh 4 1 packets
n1 K(16) 10.0.0.2:40000 > 10.96.0.10:8888 TCP N(DPd) as 10.0.0.2:40000 > 10.0.0.3:80 TCP SSr nh 17 1 packets
n1 K(16) 10.96.0.10:53 > 10.0.0.2:40000 UDP F reverse nh 16 1 packets
n1 K(17) 10.0.0.3:80 > 10.0.0.2:40000 TCP N(SPs) as 10.96.0.10:8888 > 10.0.0.2:40000 TCP SSr reverse nh 16 1 packets
counters: n1.b1.rx=+1 n1.c.tx=+2 n1.eth0.rx=+1 n2.b2.rx=+1 n2.eth0.tx=+1

# The protocol is part of the port.
send c 10.0.0.2:40000 > 10.96.0.10:53 tcp S ; send c 10.0.0.2:40000 > 10.96.0.10:8888 udp
----
n1 c receives 10.96.0.10:53 > 10.0.0.2:40000 TCP RA ttl 64 len 40
n1 c receives 10.0.0.1 > 10.0.0.2 ICMP unreachable code 3 ttl 64 len 56 about (10.0.0.2:40000 > 10.96.0.10:8888 UDP)
counters: n1.c.rx=+2 n1.c.tx=+2 n1.drop.no-listener=+2

# The backends of one port change; the connections of the other do not notice.
backends udp b3
send c 10.0.0.2:40000 > 10.96.0.10:8888 tcp A ; send c 10.0.0.2:40000 > 10.96.0.10:53 udp
----
n1 b1 receives 10.0.0.2:40000 > 10.0.0.3:80 TCP A ttl 63 len 40
n2 b3 receives 10.0.0.2:40000 > 10.0.1.3:5353 UDP ttl 62 len 28
counters: n1.b1.tx=+1 n1.c.rx=+2 n1.eth0.tx=+1 n2.b3.tx=+1 n2.eth0.rx=+1 n2.flows=+2

# Nobody serves TCP any more: the connection is reset, UDP goes on.
backends tcp
send c 10.0.0.2:40000 > 10.96.0.10:8888 tcp A ; send c 10.0.0.2:40000 > 10.96.0.10:53 udp
----
n1 c receives 10.96.0.10:8888 > 10.0.0.2:40000 TCP R ttl 64 len 40
n2 b3 receives 10.0.0.2:40000 > 10.0.1.3:5353 UDP ttl 62 len 28
counters: n1.c.rx=+2 n1.c.tx=+1 n1.drop.no-backend=+1 n1.eth0.tx=+1 n1.flows=-2 n2.b3.tx=+1 n2.eth0.rx=+1
