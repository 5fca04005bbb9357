/* What is a number: one rule for settings, descriptions, options and keys. */
#include "lib/base/number.h"
#include "tests/lib/tap.h"

static void test(const char *text, double wanted, size_t length)
{
    char *end;
    double v;
    bool number = number_read(text, &end, &v);
    ok(number && v == wanted && end == text + length, "'%s' begins with %g", text, wanted);
}

static void test_none(const char *text)
{
    char *end;
    double v;
    ok(!number_read(text, &end, &v), "'%s' is no number", text);
}

int main(void)
{
    static const char *const none[] = {"",      " 1",     "x", "0x10", "-0X1", "inf", "-inf", "nan",
                                       "1e999", "1e-999", ".", "-",    "+-1",  "e5",  "-.e1"};
    test("16", 16, 2);
    test("-0.5", -0.5, 4);
    test("+3", 3, 2);
    test(".25", .25, 3);
    test("2.", 2, 2);
    test("3e-5", 3e-5, 4);
    test("1E3", 1000, 3);
    test("010", 10, 3); /* no octal */
    test("0", 0, 1);
    test("4 channels", 4, 1);
    test("1x2", 1, 1);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        test_none(none[i]);
    return done_testing();
}
