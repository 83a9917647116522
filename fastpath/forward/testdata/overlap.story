# Two pods with the same address, from one port to one VIP, at once: the backends on
# this node and on the other see their cluster addresses, and answers find their ways.
networks
backends b1
send x1 10.9.0.5:1000 > 10.96.0.10:8888 tcp S ; send x2 10.9.0.5:1000 > 10.96.0.10:8888 tcp S
send b1 10.0.0.3:80 > 10.0.0.200:1000 tcp SA ; send b1 10.0.0.3:80 > 10.0.0.201:1000 tcp SA
flows n1
----
n1 b1 receives 10.0.0.200:1000 > 10.0.0.3:80 TCP S ttl 63 len 40
n1 b1 receives 10.0.0.201:1000 > 10.0.0.3:80 TCP S ttl 63 len 40
n1 x1 receives 10.96.0.10:8888 > 10.9.0.5:1000 TCP SA ttl 63 len 40
n1 x2 receives 10.96.0.10:8888 > 10.9.0.5:1000 TCP SA ttl 63 len 40
n1 K(17) 10.0.0.3:80 > 10.0.0.200:1000 TCP N(SPsD) as 10.96.0.10:8888 > 10.9.0.5:1000 TCP SSr reverse nh 38 1 packets
n1 K(17) 10.0.0.3:80 > 10.0.0.201:1000 TCP N(SPsD) as 10.96.0.10:8888 > 10.9.0.5:1000 TCP SSr reverse nh 39 1 packets
n1 K(38) 10.9.0.5:1000 > 10.96.0.10:8888 TCP N(SDPd) as 10.0.0.200:1000 > 10.0.0.3:80 TCP SSr nh 17 1 packets
n1 K(39) 10.9.0.5:1000 > 10.96.0.10:8888 TCP N(SDPd) as 10.0.0.201:1000 > 10.0.0.3:80 TCP SSr nh 17 1 packets
counters: n1.b1.rx=+2 n1.b1.tx=+2 n1.flows=+4 n1.x1.rx=+1 n1.x1.tx=+1 n1.x2.rx=+1 n1.x2.tx=+1

backends b2
send x1 10.9.0.5:1001 > 10.96.0.10:8888 tcp S ; send x2 10.9.0.5:1001 > 10.96.0.10:8888 tcp S
send b2 10.0.1.2:80 > 10.0.0.200:1001 tcp SA ; send b2 10.0.1.2:80 > 10.0.0.201:1001 tcp SA
send x1 10.9.0.5:1001 > 10.96.0.10:8888 tcp A
flows n2
----
n1 x1 receives 10.96.0.10:8888 > 10.9.0.5:1001 TCP SA ttl 62 len 40
n1 x2 receives 10.96.0.10:8888 > 10.9.0.5:1001 TCP SA ttl 62 len 40
n2 b2 receives 10.0.0.200:1001 > 10.0.1.2:80 TCP S ttl 62 len 40
n2 b2 receives 10.0.0.201:1001 > 10.0.1.2:80 TCP S ttl 62 len 40
n2 b2 receives 10.0.0.200:1001 > 10.0.1.2:80 TCP A ttl 62 len 40
n2 K(18) 10.0.0.200:1001 > 10.96.0.10:8888 TCP N(DPd) as 10.0.0.200:1001 > 10.0.1.2:80 TCP SSrE nh 18 2 packets
n2 K(18) 10.0.0.201:1001 > 10.96.0.10:8888 TCP N(DPd) as 10.0.0.201:1001 > 10.0.1.2:80 TCP SSr nh 18 1 packets
n2 K(18) 10.0.1.2:80 > 10.0.0.200:1001 TCP N(SPs) as 10.96.0.10:8888 > 10.0.0.200:1001 TCP SSrEr reverse nh 4 1 packets
n2 K(18) 10.0.1.2:80 > 10.0.0.201:1001 TCP N(SPs) as 10.96.0.10:8888 > 10.0.0.201:1001 TCP SSr reverse nh 4 1 packets
counters: n1.eth0.rx=+2 n1.eth0.tx=+3 n1.flows=+4 n1.x1.rx=+2 n1.x1.tx=+1 n1.x2.rx=+1 n1.x2.tx=+1 n2.b2.rx=+2 n2.b2.tx=+3 n2.eth0.rx=+3 n2.eth0.tx=+2 n2.flows=+4

# The same in IPv6.
send x1 [2001:db8:9::5]:1001 > [2001:db8:96::a]:8888 tcp S ; send x2 [2001:db8:9::5]:1001 > [2001:db8:96::a]:8888 tcp S
send b2 [2001:db8:1::2]:80 > [2001:db8::200]:1001 tcp SA ; send b2 [2001:db8:1::2]:80 > [2001:db8::201]:1001 tcp SA
----
n1 x1 receives [2001:db8:96::a]:8888 > [2001:db8:9::5]:1001 TCP SA ttl 62 len 60
n1 x2 receives [2001:db8:96::a]:8888 > [2001:db8:9::5]:1001 TCP SA ttl 62 len 60
n2 b2 receives [2001:db8::200]:1001 > [2001:db8:1::2]:80 TCP S ttl 62 len 60
n2 b2 receives [2001:db8::201]:1001 > [2001:db8:1::2]:80 TCP S ttl 62 len 60
counters: n1.eth0.rx=+2 n1.eth0.tx=+2 n1.flows=+4 n1.x1.rx=+1 n1.x1.tx=+1 n1.x2.rx=+1 n1.x2.tx=+1 n2.b2.rx=+2 n2.b2.tx=+2 n2.eth0.rx=+2 n2.eth0.tx=+2 n2.flows=+4

# A backend that is no pod, and the outside.
external 198.51.100.7:6443
send x1 10.9.0.5:1002 > 10.96.0.10:8888 tcp S ; send x2 10.9.0.5:1002 > 10.96.0.10:8888 tcp S
send host 198.51.100.7:6443 > 10.0.0.200:1002 tcp SA ; send host 198.51.100.7:6443 > 10.0.0.201:1002 tcp SA
send x1 10.9.0.5:7 > 203.0.113.9 ping ; send host 203.0.113.9 > 10.0.0.200:7 pong
send x2 [2001:db8:9::5]:7 > 2001:db8:ffff::9 ping ; send host 2001:db8:ffff::9 > [2001:db8::201]:7 pong
----
n1 host receives 10.0.0.200:1002 > 198.51.100.7:6443 TCP S ttl 63 len 40
n1 host receives 10.0.0.201:1002 > 198.51.100.7:6443 TCP S ttl 63 len 40
n1 host receives 10.0.0.200 > 203.0.113.9 ICMP echo request id 7 ttl 63 len 28
n1 host receives 2001:db8::201 > 2001:db8:ffff::9 ICMPv6 echo request id 7 ttl 63 len 48
n1 x1 receives 10.96.0.10:8888 > 10.9.0.5:1002 TCP SA ttl 63 len 40
n1 x1 receives 203.0.113.9 > 10.9.0.5 ICMP echo reply id 7 ttl 63 len 28
n1 x2 receives 10.96.0.10:8888 > 10.9.0.5:1002 TCP SA ttl 63 len 40
n1 x2 receives 2001:db8:ffff::9 > 2001:db8:9::5 ICMPv6 echo reply id 7 ttl 63 len 48
counters: n1.flows=+8 n1.host.rx=+4 n1.host.tx=+4 n1.x1.rx=+2 n1.x1.tx=+2 n1.x2.rx=+2 n1.x2.tx=+2

# The host of the node, and a router, about it.
send x1 10.9.0.5:8 > 203.0.113.9:53 udp
unreachable host
----
n1 host receives 10.0.0.200:8 > 203.0.113.9:53 UDP ttl 63 len 28
n1 x1 receives 203.0.113.9 > 10.9.0.5 ICMP unreachable code 3 ttl 63 len 56 about (10.9.0.5:8 > 203.0.113.9:53 UDP)
counters: n1.flows=+2 n1.host.rx=+1 n1.host.tx=+1 n1.x1.rx=+1 n1.x1.tx=+1

# Within their network they keep their own addresses.
send x1 10.9.0.5:1 > 10.9.0.77:80 tcp S ; send y1 10.9.0.77:80 > 10.9.0.5:1 tcp SA
send x2 10.9.0.5:1 > 10.9.0.77:80 udp
----
n1 host receives 10.0.0.201:1 > 10.9.0.77:80 UDP ttl 63 len 28
n1 x1 receives 10.9.0.77:80 > 10.9.0.5:1 TCP SA ttl 62 len 40
n2 y1 receives 10.9.0.5:1 > 10.9.0.77:80 TCP S ttl 62 len 40
counters: n1.eth0.rx=+1 n1.eth0.tx=+1 n1.flows=+4 n1.host.tx=+1 n1.x1.rx=+1 n1.x1.tx=+1 n1.x2.rx=+1 n2.eth0.rx=+1 n2.eth0.tx=+1 n2.flows=+2 n2.y1.rx=+1 n2.y1.tx=+1

# The host reaches a pod at its cluster address, from this node and another, and at its
# own; the pod sees itself as it is.
send host 10.0.0.1:1 > 10.0.0.200:80 tcp S ; send x1 10.9.0.5:80 > 10.0.0.1:1 tcp SA
send host 10.0.0.1:1 > 10.0.0.201:80 tcp S ; send x2 10.9.0.5:80 > 10.0.0.1:1 tcp SA
send host 10.0.0.1:2 > 10.9.0.5:80 tcp S ; send x1 10.9.0.5:80 > 10.0.0.1:2 tcp SA
----
n1 host receives 10.0.0.200:80 > 10.0.0.1:1 TCP SA ttl 63 len 40
n1 host receives 10.0.0.201:80 > 10.0.0.1:1 TCP SA ttl 63 len 40
n1 host receives 10.9.0.5:80 > 10.0.0.1:2 TCP SA ttl 63 len 40
n1 x1 receives 10.0.0.1:1 > 10.9.0.5:80 TCP S ttl 63 len 40
n1 x1 receives 10.0.0.1:2 > 10.9.0.5:80 TCP S ttl 63 len 40
n1 x2 receives 10.0.0.1:1 > 10.9.0.5:80 TCP S ttl 63 len 40
counters: n1.flows=+6 n1.host.rx=+3 n1.host.tx=+3 n1.x1.rx=+2 n1.x1.tx=+2 n1.x2.rx=+1 n1.x2.tx=+1

# That is for the pod's own node: from others, hosts and pods cannot be told apart, and
# the cluster address is for answers only.
send host 10.0.0.1:3 > 10.0.1.200:80 tcp S
tunnel 192.0.2.2 16 10.0.1.1:4 > 10.0.0.201:80 tcp S
----
n1 host receives 10.0.1.200:80 > 10.0.0.1:3 TCP RA ttl 63 len 40
n2 host receives 10.0.0.201:80 > 10.0.1.1:4 TCP RA ttl 63 len 40
counters: n1.drop.isolated=+1 n1.eth0.rx=+2 n1.eth0.tx=+2 n1.flows=+2 n1.host.rx=+1 n1.host.tx=+1 n2.drop.isolated=+1 n2.eth0.rx=+2 n2.eth0.tx=+1 n2.flows=+2 n2.host.tx=+1

# By both addresses from one port: the second has another port, or the pod could not
# tell them apart.
send host 10.0.0.1:5 > 10.9.0.5:80 tcp S ; send host 10.0.0.1:5 > 10.0.0.200:80 tcp S
----
n1 x1 receives 10.0.0.1:5 > 10.9.0.5:80 TCP S ttl 63 len 40
n1 x1 receives 10.0.0.1:54140 > 10.9.0.5:80 TCP S ttl 63 len 40
counters: n1.flows=+4 n1.host.rx=+2 n1.x1.tx=+2

# A pod reaches itself at its cluster address, without going round by the host.
send x1 10.9.0.5:1 > 10.0.0.200:9 udp ; send x1 10.9.0.5:9 > 10.0.0.200:1 udp
----
n1 x1 receives 10.0.0.200:1 > 10.9.0.5:9 UDP ttl 63 len 28
n1 x1 receives 10.0.0.200:9 > 10.9.0.5:1 UDP ttl 63 len 28
counters: n1.flows=+2 n1.x1.rx=+2 n1.x1.tx=+2

# Pods of D and of other networks do not reach it there, nor with its own.
send c 10.0.0.2:1 > 10.0.0.200:80 tcp S ; send c 10.0.0.2:1 > 10.9.0.5:80 tcp S ; send x2 10.9.0.5:1 > 10.0.0.200:80 tcp S
send x1 10.9.0.5:1 > 10.0.0.2:80 tcp S
----
n1 c receives 10.0.0.200:80 > 10.0.0.2:1 TCP RA ttl 64 len 40
n1 c receives 10.9.0.5:80 > 10.0.0.2:1 TCP RA ttl 64 len 40
n1 x1 receives 10.0.0.2:80 > 10.9.0.5:1 TCP RA ttl 64 len 40
n1 x2 receives 10.0.0.200:80 > 10.9.0.5:1 TCP RA ttl 64 len 40
counters: n1.c.rx=+2 n1.c.tx=+2 n1.drop.isolated=+4 n1.x1.rx=+1 n1.x1.tx=+1 n1.x2.rx=+1 n1.x2.tx=+1

# Nor does it speak with another's address, or with its cluster address.
send x1 10.0.0.200:1 > 10.96.0.10:8888 tcp S ; send x1 10.9.0.77:1 > 10.96.0.10:8888 tcp S
----
counters: n1.drop.invalid-source=+2 n1.x1.rx=+2
