# A connection to the VIP whose backend is on the other node: the client's node
# forwards it as it is (F), the backend's translates (N), the client sees the VIP.
send c 10.0.0.2:40000 > 10.96.0.10:8888 tcp S
----
n2 b3 receives 10.0.0.2:40000 > 10.0.1.3:80 TCP S ttl 62 len 40
counters: n1.c.rx=+1 n1.eth0.tx=+1 n1.flows=+2 n2.b3.tx=+1 n2.eth0.rx=+1 n2.flows=+2

send b3 10.0.1.3:80 > 10.0.0.2:40000 tcp SA
----
n1 c receives 10.96.0.10:8888 > 10.0.0.2:40000 TCP SA ttl 62 len 40
counters: n1.c.tx=+1 n1.eth0.rx=+1 n2.b3.rx=+1 n2.eth0.tx=+1

send c 10.0.0.2:40000 > 10.96.0.10:8888 tcp A ; send b3 10.0.1.3:80 > 10.0.0.2:40000 tcp A len 100
flows n1 ; flows n2
----
n1 c receives 10.96.0.10:8888 > 10.0.0.2:40000 TCP A ttl 62 len 140
n2 b3 receives 10.0.0.2:40000 > 10.0.1.3:80 TCP A ttl 62 len 40
n1 K(16) 10.0.0.2:40000 > 10.96.0.10:8888 TCP F SSrEEr nh 4 2 packets
n1 K(16) 10.96.0.10:8888 > 10.0.0.2:40000 TCP F SSrEEr reverse nh 16 2 packets
n2 K(19) 10.0.0.2:40000 > 10.96.0.10:8888 TCP N(DPd) as 10.0.0.2:40000 > 10.0.1.3:80 TCP SSrEEr nh 19 2 packets
n2 K(19) 10.0.1.3:80 > 10.0.0.2:40000 TCP N(SPs) as 10.96.0.10:8888 > 10.0.0.2:40000 TCP SSrEEr reverse nh 4 2 packets
counters: n1.c.rx=+1 n1.c.tx=+1 n1.eth0.rx=+1 n1.eth0.tx=+1 n2.b3.rx=+1 n2.b3.tx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1

# Nobody serves UDP 99 at the VIP, and nobody serves 10.96.0.11 at all.
send c 10.0.0.2:40001 > 10.96.0.10:99 udp ; send c 10.0.0.2:40002 > 10.96.0.11:80 tcp S
----
n1 c receives 10.0.0.1 > 10.0.0.2 ICMP unreachable code 3 ttl 64 len 56 about (10.0.0.2:40001 > 10.96.0.10:99 UDP)
n1 c receives 10.96.0.11:80 > 10.0.0.2:40002 TCP RA ttl 64 len 40
counters: n1.c.rx=+2 n1.c.tx=+2 n1.drop.no-backend=+1 n1.drop.no-listener=+1
