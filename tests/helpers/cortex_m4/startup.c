/* Start of a program on the Cortex-M4 of QEMU's mps2-an386: stack, FPU, then newlib's start. */
#include <stdint.h>

extern uint32_t stack_top;
void _start(void);

void reset(void) {
  *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: the FPU for everybody */
  __asm volatile("dsb\n isb");
  _start();
}

static void halt(void) {
  for (;;) {
  }
}

__attribute__((section(".vectors"), used)) static const void *const kVectors[16] = {
    &stack_top, reset, halt, halt, halt, halt, halt};
