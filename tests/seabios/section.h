/*
 * Where clang puts the variables of what includes this, and how the linker
 * names the beginning and the end of that
 */
#pragma clang section bss = "fuzzed_bss" data = "fuzzed_data"
extern unsigned char __start_fuzzed_data[], __stop_fuzzed_data[];
extern unsigned char __start_fuzzed_bss[], __stop_fuzzed_bss[];
