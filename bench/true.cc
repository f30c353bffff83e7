// The program that containers of bench_oci run: nothing, so that what is measured is the runtime.
int main() {
  return 0;
}
