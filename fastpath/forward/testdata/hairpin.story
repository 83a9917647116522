# A pod reaches itself through its VIP: it sees the VIP as the client, and the VIP
# as the server.
backends b1
send b1 10.0.0.3:40000 > 10.96.0.10:8888 tcp S
----
n1 b1 receives 10.96.0.10:40000 > 10.0.0.3:80 TCP S ttl 63 len 40
counters: n1.b1.rx=+1 n1.b1.tx=+1 n1.flows=+2

send b1 10.0.0.3:80 > 10.96.0.10:40000 tcp SA
----
n1 b1 receives 10.96.0.10:8888 > 10.0.0.3:40000 TCP SA ttl 63 len 40
counters: n1.b1.rx=+1 n1.b1.tx=+1

send b1 10.0.0.3:40000 > 10.96.0.10:8888 tcp A len 10 ; send b1 10.0.0.3:80 > 10.96.0.10:40000 tcp A len 20
flows n1
----
n1 b1 receives 10.96.0.10:40000 > 10.0.0.3:80 TCP A ttl 63 len 50
n1 b1 receives 10.96.0.10:8888 > 10.0.0.3:40000 TCP A ttl 63 len 60
n1 K(17) 10.0.0.3:40000 > 10.96.0.10:8888 TCP N(SDPd) as 10.96.0.10:40000 > 10.0.0.3:80 TCP SSrEEr nh 17 2 packets
n1 K(17) 10.0.0.3:80 > 10.96.0.10:40000 TCP N(SPsD) as 10.96.0.10:8888 > 10.0.0.3:40000 TCP SSrEEr reverse nh 17 2 packets
counters: n1.b1.rx=+2 n1.b1.tx=+2

# So does the host, with a backend that is no pod: what it sent comes back to it.
external 198.51.100.7:6443
send host 10.0.0.1:50000 > 10.96.0.10:8888 tcp S ; send host 198.51.100.7:6443 > 10.96.0.10:50000 tcp SA
----
n1 host receives 10.96.0.10:50000 > 198.51.100.7:6443 TCP S ttl 63 len 40
n1 host receives 10.96.0.10:8888 > 10.0.0.1:50000 TCP SA ttl 63 len 40
counters: n1.flows=+2 n1.host.rx=+2 n1.host.tx=+2

# What nothing translates would go round for ever.
send host 10.0.0.1:50000 > 198.51.100.7:6443 tcp S
----
n1 host receives 169.254.1.1 > 10.0.0.1 ICMP unreachable code 0 ttl 64 len 68 about (10.0.0.1:50000 > 198.51.100.7:6443 TCP)
counters: n1.drop.packet-loop=+1 n1.host.rx=+1 n1.host.tx=+1

# A pod's connection to that backend leaves by the host as itself.
send c 10.0.0.2:40000 > 10.96.0.10:8888 tcp S ; send host 198.51.100.7:6443 > 10.0.0.2:40000 tcp SA
flows n1
----
n1 c receives 10.96.0.10:8888 > 10.0.0.2:40000 TCP SA ttl 63 len 40
n1 host receives 10.0.0.2:40000 > 198.51.100.7:6443 TCP S ttl 63 len 40
n1 K(16) 10.0.0.2:40000 > 10.96.0.10:8888 TCP N(DPd) as 10.0.0.2:40000 > 198.51.100.7:6443 TCP SSr nh 3 1 packets
n1 K(17) 10.0.0.3:40000 > 10.96.0.10:8888 TCP N(SDPd) as 10.96.0.10:40000 > 10.0.0.3:80 TCP SSrEEr nh 17 2 packets
n1 K(17) 10.0.0.3:80 > 10.96.0.10:40000 TCP N(SPsD) as 10.96.0.10:8888 > 10.0.0.3:40000 TCP SSrEEr reverse nh 17 2 packets
n1 K(3) 10.0.0.1:50000 > 10.96.0.10:8888 TCP N(SDPd) as 10.96.0.10:50000 > 198.51.100.7:6443 TCP SSr nh 3 1 packets
n1 K(3) 198.51.100.7:6443 > 10.0.0.2:40000 TCP N(SPs) as 10.96.0.10:8888 > 10.0.0.2:40000 TCP SSr reverse nh 16 1 packets
n1 K(3) 198.51.100.7:6443 > 10.96.0.10:50000 TCP N(SPsD) as 10.96.0.10:8888 > 10.0.0.1:50000 TCP SSr reverse nh 3 1 packets
counters: n1.c.rx=+1 n1.c.tx=+1 n1.flows=+2 n1.host.rx=+1 n1.host.tx=+1
