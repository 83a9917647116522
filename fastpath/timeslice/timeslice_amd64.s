#include "textflag.h"

// func current() uintptr
TEXT ·current(SB), NOSPLIT, $0-8
	MOVQ (TLS), AX
	MOVQ AX, ret+0(FP)
	RET

// func renew(m, p, tick uintptr)
TEXT ·renew(SB), NOSPLIT, $0-24
	MOVQ (TLS), AX
	MOVQ m+0(FP), BX
	MOVQ p+8(FP), CX
	MOVQ tick+16(FP), DX
	MOVQ (AX)(BX*1), AX
	MOVQ (AX)(CX*1), AX
	INCL (AX)(DX*1)
	RET
