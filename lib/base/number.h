/* number.h - a number as people write one: decimal, with a point. One rule for settings,
 * descriptions, options and keys. */
#ifndef NUMBER_H
#define NUMBER_H

#include <stdbool.h>

/* Reads digits, maybe with a sign before them, a point among them and an exponent behind. False
 * where there are none, and for what strtod would take beside them: hexadecimal, "inf", "nan",
 * blanks in front, and what no double is near. *end: behind the last digit, or the text. */
bool number_read(const char *text, char **end, double *v);

#endif
