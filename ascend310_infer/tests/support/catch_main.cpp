// main() of the test program for Catch2 2; Catch2 3 brings a library with it.
#define CATCH_CONFIG_MAIN
#include "tests/support/catch.hpp"
