// The program of pod_init_program.cc as bytes. A file of its own: the compiler cache does not keep what has an .incbin.
asm(R"(
.section .rodata
.balign 16
.globl berth_pod_init_begin
.globl berth_pod_init_end
berth_pod_init_begin:
.incbin ")" BERTH_POD_INIT R"("
berth_pod_init_end:
.text
)");
