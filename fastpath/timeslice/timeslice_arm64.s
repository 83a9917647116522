#include "textflag.h"

// func current() uintptr
TEXT ·current(SB), NOSPLIT, $0-8
	MOVD g, ret+0(FP)
	RET

// func renew(m, p, tick uintptr)
TEXT ·renew(SB), NOSPLIT, $0-24
	MOVD m+0(FP), R0
	MOVD p+8(FP), R1
	MOVD tick+16(FP), R2
	MOVD (g)(R0), R0
	MOVD (R0)(R1), R0
	ADD  R2, R0
	MOVW (R0), R1
	ADD  $1, R1
	MOVW R1, (R0)
	RET
