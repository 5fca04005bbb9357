/* The same with the inflater that this build does not use, where it is there. */
#ifdef HAVE_ISAL
#undef HAVE_ISAL
#elif __has_include(<isa-l/igzip_lib.h>)
#define HAVE_ISAL
#endif
#include "formats/inflate.c"
#include "tests/unit/inflate.c"
