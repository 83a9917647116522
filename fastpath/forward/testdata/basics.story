# Pings between pods of one node and of two, both families: the flow is the
# identifier's.
send c 10.0.0.2:7 > 10.0.0.3 ping ; send b1 10.0.0.3 > 10.0.0.2:7 pong
send c 10.0.0.2:7 > 10.0.1.2 ping ; send b2 10.0.1.2 > 10.0.0.2:7 pong
send c [2001:db8::2]:7 > 2001:db8:1::2 ping ; send b2 2001:db8:1::2 > [2001:db8::2]:7 pong
flows n1
----
n1 b1 receives 10.0.0.2 > 10.0.0.3 ICMP echo request id 7 ttl 63 len 28
n1 c receives 10.0.0.3 > 10.0.0.2 ICMP echo reply id 7 ttl 63 len 28
n1 c receives 10.0.1.2 > 10.0.0.2 ICMP echo reply id 7 ttl 62 len 28
n1 c receives 2001:db8:1::2 > 2001:db8::2 ICMPv6 echo reply id 7 ttl 62 len 48
n2 b2 receives 10.0.0.2 > 10.0.1.2 ICMP echo request id 7 ttl 62 len 28
n2 b2 receives 2001:db8::2 > 2001:db8:1::2 ICMPv6 echo request id 7 ttl 62 len 48
n1 K(16) 10.0.0.2 > 10.0.0.3 ICMP F nh 17 1 packets
n1 K(16) 10.0.0.2 > 10.0.1.2 ICMP F nh 4 1 packets
n1 K(16) 10.0.1.2 > 10.0.0.2 ICMP F reverse nh 16 1 packets
n1 K(16) 2001:db8:1::2 > 2001:db8::2 ICMPv6 F reverse nh 16 1 packets
n1 K(16) 2001:db8::2 > 2001:db8:1::2 ICMPv6 F nh 4 1 packets
n1 K(17) 10.0.0.3 > 10.0.0.2 ICMP F reverse nh 16 1 packets
counters: n1.b1.rx=+1 n1.b1.tx=+1 n1.c.rx=+3 n1.c.tx=+3 n1.eth0.rx=+2 n1.eth0.tx=+2 n1.flows=+6 n2.b2.rx=+2 n2.b2.tx=+2 n2.eth0.rx=+2 n2.eth0.tx=+2 n2.flows=+4

# The host and a pod of its node, and a pod of the other: what the kubelet does.
send host 10.0.0.1:1 > 10.0.0.2:80 tcp S ; send c 10.0.0.2:80 > 10.0.0.1:1 tcp SA ; send host 10.0.0.1:1 > 10.0.0.2:80 tcp A
send host 10.0.0.1:1 > 10.0.1.3:80 tcp S ; send b3 10.0.1.3:80 > 10.0.0.1:1 tcp SA
----
n1 c receives 10.0.0.1:1 > 10.0.0.2:80 TCP S ttl 63 len 40
n1 c receives 10.0.0.1:1 > 10.0.0.2:80 TCP A ttl 63 len 40
n1 host receives 10.0.0.2:80 > 10.0.0.1:1 TCP SA ttl 63 len 40
n1 host receives 10.0.1.3:80 > 10.0.0.1:1 TCP SA ttl 62 len 40
n2 b3 receives 10.0.0.1:1 > 10.0.1.3:80 TCP S ttl 62 len 40
counters: n1.c.rx=+1 n1.c.tx=+2 n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=+4 n1.host.rx=+3 n1.host.tx=+2 n2.b3.rx=+1 n2.b3.tx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1 n2.flows=+2

# A pod does not speak for another, nor for the VIP.
send c 10.0.0.3:1 > 10.0.1.2:2 udp ; send c 10.96.0.10:1 > 10.0.1.2:2 udp ; send c [2001:db8::3]:1 > [2001:db8:1::2]:2 udp
----
counters: n1.c.rx=+3 n1.drop.invalid-source=+3

# Nobody has the address: on a node's block the route says so, outside the host may know.
send c [2001:db8::2]:1 > [2001:db8:77::1]:2 udp ; send c 10.0.0.2:1 > 203.0.113.5:2 udp
----
n1 c receives fe80::1 > 2001:db8::2 ICMPv6 unreachable code 0 ttl 64 len 96 about ([2001:db8::2]:1 > [2001:db8:77::1]:2 UDP)
n1 host receives 10.0.0.2:1 > 203.0.113.5:2 UDP ttl 63 len 28
counters: n1.c.rx=+2 n1.c.tx=+1 n1.drop.no-route=+1 n1.flows=+2 n1.host.tx=+1

# A connection is closed from both sides and forgotten soon, the other one is not.
send host 10.0.0.1:1 > 10.0.0.2:80 tcp FA ; send c 10.0.0.2:80 > 10.0.0.1:1 tcp FA
wait 15s
----
n1 c receives 10.0.0.1:1 > 10.0.0.2:80 TCP FA ttl 63 len 40
n1 host receives 10.0.0.2:80 > 10.0.0.1:1 TCP FA ttl 63 len 40
counters: n1.c.rx=+1 n1.c.tx=+1 n1.flows=-2 n1.host.rx=+1 n1.host.tx=+1
