#include "textflag.h"

// func clone(flags uintptr) (pid uintptr)
//
// The child runs on the parent's stack and writes over it, so the way back is kept in a register.
TEXT ·clone(SB),NOSPLIT|NOFRAME,$0-16
	MOVQ	flags+0(FP), DI
	XORQ	SI, SI
	XORQ	DX, DX
	XORQ	R10, R10
	XORQ	R8, R8
	MOVQ	$56, AX
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	MOVQ	AX, pid+8(FP)
	RET
