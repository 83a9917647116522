# An interface holds as many flows as it may (all of these have one owner): what it has
# goes on, what is new does not, and others are not concerned.
quota 2
send c 10.0.0.2:4 > 10.0.0.3:7 udp ; send c 10.0.0.2:6 > 10.0.0.3:7 udp ; send c 10.0.0.2:14 > 10.0.0.3:7 udp
----
n1 b1 receives 10.0.0.2:4 > 10.0.0.3:7 UDP ttl 63 len 28
n1 b1 receives 10.0.0.2:6 > 10.0.0.3:7 UDP ttl 63 len 28
counters: n1.b1.tx=+2 n1.c.rx=+3 n1.drop.vif-flow-limit=+1 n1.flows=+4

send c 10.0.0.2:4 > 10.0.0.3:7 udp ; send b1 10.0.0.3:7 > 10.0.0.2:4 udp ; send b1 10.0.0.3:4 > 10.0.0.2:7 udp
----
n1 b1 receives 10.0.0.2:4 > 10.0.0.3:7 UDP ttl 63 len 28
n1 c receives 10.0.0.3:7 > 10.0.0.2:4 UDP ttl 63 len 28
n1 c receives 10.0.0.3:4 > 10.0.0.2:7 UDP ttl 63 len 28
counters: n1.b1.rx=+2 n1.b1.tx=+1 n1.c.rx=+1 n1.c.tx=+2 n1.flows=+2

# Flows that are forgotten make room.
wait 200s
----
counters: n1.flows=-6

send c 10.0.0.2:14 > 10.0.0.3:7 udp
----
n1 b1 receives 10.0.0.2:14 > 10.0.0.3:7 UDP ttl 63 len 28
counters: n1.b1.tx=+1 n1.c.rx=+1 n1.flows=+2
