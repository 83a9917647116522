# A draining backend keeps its connections and takes no new ones; one that is
# gone gets its connections reset.
send c 10.0.0.2:40000 > 10.96.0.10:8888 tcp S ; send b3 10.0.1.3:80 > 10.0.0.2:40000 tcp SA
----
n1 c receives 10.96.0.10:8888 > 10.0.0.2:40000 TCP SA ttl 62 len 40
n2 b3 receives 10.0.0.2:40000 > 10.0.1.3:80 TCP S ttl 62 len 40
counters: n1.c.rx=+1 n1.c.tx=+1 n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=+2 n2.b3.rx=+1 n2.b3.tx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1 n2.flows=+2

backends b1 b2 b3-
send c 10.0.0.2:40000 > 10.96.0.10:8888 tcp A len 10
----
n2 b3 receives 10.0.0.2:40000 > 10.0.1.3:80 TCP A ttl 62 len 50
counters: n1.c.rx=+1 n1.eth0.tx=+1 n2.b3.tx=+1 n2.eth0.rx=+1

send c 10.0.0.2:40003 > 10.96.0.10:8888 tcp S
----
n1 b1 receives 10.0.0.2:40003 > 10.0.0.3:80 TCP S ttl 63 len 40
counters: n1.b1.tx=+1 n1.c.rx=+1 n1.flows=+2

backends b1 b2
send c 10.0.0.2:40000 > 10.96.0.10:8888 tcp A len 10
----
n1 c receives 10.96.0.10:8888 > 10.0.0.2:40000 TCP R ttl 64 len 40
counters: n1.c.rx=+1 n1.c.tx=+1 n1.drop.backend-removed=+1 n1.flows=-2

backends
send c 10.0.0.2:40009 > 10.96.0.10:8888 tcp S
----
n1 c receives 10.96.0.10:8888 > 10.0.0.2:40009 TCP RA ttl 64 len 40
counters: n1.c.rx=+1 n1.c.tx=+1 n1.drop.no-backend=+1
