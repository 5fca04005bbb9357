/* The colours of pictures: no two meanings look alike, to whom red, green or blue cones are missing
 * neither. Colour vision as Machado, Oliveira and Fernandes (2009) simulate it, in linear light;
 * distance in CIE L*a*b*, where 2.3 is just noticeable. */
#include <math.h>

#include "lib/image/sheet.h"
#include "tests/lib/tap.h"

static const double sight[4][3][3] = {
    {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
    {{0.152286, 1.052583, -0.204868},
     {0.114503, 0.786281, 0.099216},
     {-0.003882, -0.048116, 1.051998}},
    {{0.367322, 0.860646, -0.227968},
     {0.280085, 0.672501, 0.047413},
     {-0.011820, 0.042940, 0.968881}},
    {{1.255528, -0.076749, -0.178779},
     {-0.078411, 0.930809, 0.147602},
     {0.004733, 0.691367, 0.303900}},
};
static const char *const who[4] = {"all cones", "no red cones", "no green cones", "no blue cones"};

static double f(double t)
{
    return t > 216.0 / 24389 ? cbrt(t) : (24389.0 / 27 * t + 16) / 116;
}

static void lab(uint32_t rgb, const double s[3][3], double out[3])
{
    static const double xyz[3][3] = {{0.4124564, 0.3575761, 0.1804375},
                                     {0.2126729, 0.7151522, 0.0721750},
                                     {0.0193339, 0.1191920, 0.9503041}};
    double light[3], seen[3], x[3];
    for (int i = 0; i < 3; i++) {
        double c = (rgb >> (16 - 8 * i) & 255) / 255.0;
        light[i] = c <= 0.04045 ? c / 12.92 : pow((c + 0.055) / 1.055, 2.4);
    }
    for (int i = 0; i < 3; i++) {
        double v = s[i][0] * light[0] + s[i][1] * light[1] + s[i][2] * light[2];
        seen[i] = v < 0 ? 0 : v > 1 ? 1 : v;
    }
    for (int i = 0; i < 3; i++)
        x[i] = f((xyz[i][0] * seen[0] + xyz[i][1] * seen[1] + xyz[i][2] * seen[2]) /
                 (xyz[i][0] + xyz[i][1] + xyz[i][2]));
    out[0] = 116 * x[1] - 16;
    out[1] = 500 * (x[0] - x[1]);
    out[2] = 200 * (x[1] - x[2]);
}

int main(void)
{
    enum { FIELD = 4 + IMG_VERDICTS }; /* the first: what data sets of the field have */
    uint32_t colour[IMG_LABELS + IMG_VERDICTS];
    int n = 0;
    for (int label = 1; label <= 4; label++)
        colour[n++] = img_class_colour(label);
    for (int v = 0; v < IMG_VERDICTS; v++)
        colour[n++] = img_verdict_colour((enum img_verdict)v);
    for (int label = 5; label < IMG_LABELS; label++)
        colour[n++] = img_class_colour(label);
    for (int s = 0; s < 4; s++) {
        double least = 1e9, field = 1e9;
        uint32_t pair[2] = {0, 0};
        for (int i = 0; i < n; i++)
            for (int j = 0; j < i; j++) {
                double a[3], b[3];
                lab(colour[i], sight[s], a);
                lab(colour[j], sight[s], b);
                double d = sqrt(pow(a[0] - b[0], 2) + pow(a[1] - b[1], 2) + pow(a[2] - b[2], 2));
                if (i < FIELD && d < field)
                    field = d;
                if (d < least) {
                    least = d;
                    pair[0] = colour[i], pair[1] = colour[j];
                }
            }
        ok(field > 20, "%s: the least distance is %.1f", who[s], field);
        ok(least > 15, "%s: with labels to 15 it is %.1f (%06x and %06x)", who[s], least,
           (unsigned)pair[0], (unsigned)pair[1]);
    }
    for (int s = 0; s < 4; s++) {
        bool brighter = true;
        for (int v = 1; v < 256; v++) {
            double a[3], b[3];
            lab(img_heat_colour((uint8_t)(v - 1)), sight[s], a);
            lab(img_heat_colour((uint8_t)v), sight[s], b);
            brighter &= b[0] > a[0];
        }
        ok(brighter, "%s: hotter is brighter", who[s]);
    }
    return done_testing();
}
