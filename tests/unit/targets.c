/* Regions as a text: what they hold, what they paint, what is refused. */
#include "lib/base/targets.h"
#include "tests/lib/tap.h"

#include <string.h>

/* What the rule makes of regions that hold `label` and are likelier than not. */
static int painted(const struct targets *t, int label)
{
    int out = 0;
    for (int k = 0; k < t->outputs; k++)
        if (t->of[label] >> k & 1)
            out = t->paints[k];
    return out;
}

static void refused(int classes, const char *text, const char *what)
{
    struct targets t;
    char why[256] = "";
    ok(targets_make(&t, classes, text, why, sizeof why) == -1 && strstr(why, what), "%s: %s", text,
       why);
}

int main(void)
{
    struct targets t;
    char why[256];
    int e = targets_make(&t, 4, "", why, sizeof why);
    ok(e == 0 && !t.regions && t.outputs == 4 && t.labels[3] == 8 && t.of[2] == 4,
       "classes: output k is label k");

    e = targets_make(&t, 5, "wt=1,2,3;tc=1,3;et=3;rc=4", why, sizeof why);
    ok(e == 0 && t.regions && t.outputs == 4 && !strcmp(t.name[1], "tc"), "four regions");
    ok(t.labels[0] == 0xe && t.labels[1] == 0xa && t.labels[2] == 8 && t.labels[3] == 0x10,
       "their labels");
    ok(t.of[0] == 0 && t.of[1] == 3 && t.of[2] == 1 && t.of[3] == 7 && t.of[4] == 8,
       "of each label, the regions that hold it");
    ok(t.paints[0] == 2 && t.paints[1] == 1 && t.paints[2] == 3 && t.paints[3] == 4,
       "each paints what no later one holds");
    bool back = true;
    for (int l = 0; l < 5; l++)
        back = back && painted(&t, l) == l;
    ok(back, "labels become regions become the same labels");
    e = targets_make(&t, 4, "wt=1,2,3:2", why, sizeof why);
    ok(e == 0 && t.outputs == 1 && t.paints[0] == 2, "one region, told what to paint");
    e = targets_make(&t, 4, "et=3;wt=3,2,1:1", why, sizeof why);
    ok(e == -1 && strstr(why, "region 'et': none of its labels is in no later region"),
       "a region that a later one hides: %s", why);

    refused(4, "wt=1,2,3", "more than one of its labels");
    refused(4, "wt", "wanted NAME=LABEL,LABEL... with ; between, got 'wt'");
    refused(4, "=1", "got '=1'");
    refused(4, "w t=1", "got 'w t=1'");
    refused(4, "a=1;a=2", "region 'a' stands twice");
    refused(4, "a=1,1", "label 1 stands twice");
    refused(4, "a=4", "wanted labels from 1 to 3, got '4'");
    refused(4, "a=0", "wanted labels from 1 to 3, got '0'");
    refused(4, "a=", "got ''");
    refused(4, "a=99999999999999999999999", "wanted labels from 1 to 3");
    refused(4, "a=-1", "got '-1'");
    refused(4, "a=1x", "wanted labels with , between, got 'x'");
    refused(4, "a=1:2", "paints label 2, which it does not hold");
    refused(4, "abcdefghijklmnop=1", "wanted NAME=");
    refused(17, "", "at most 16 classes");
    refused(16,
            "a=1;b=2;c=3;d=4;e=5;f=6;g=7;h=8;i=9;j=10;k=11;l=12;m=13;n=14;o=15;p=1:1;q=2:2;r=3:3",
            "at most 16 regions");
    static const float prob[3][4] = {
        {.6f, .5f, .2f, .4f}, {.7f, .5f, .1f, .4f}, {.1f, .4f, .8f, .3f}};
    uint8_t pred[4];
    e = targets_make(&t, 4, "wt=1,2,3;tc=1,3;et=3", why, sizeof why);
    targets_predict(&t, prob[0], 4, pred);
    ok(!e && pred[0] == 1 && pred[1] == 0 && pred[2] == 3 && pred[3] == 0,
       "regions paint one over the other where they are likelier than not");
    e = targets_make(&t, 3, "", why, sizeof why);
    targets_predict(&t, prob[0], 4, pred);
    ok(!e && pred[0] == 1 && pred[1] == 0 && pred[2] == 2 && pred[3] == 0,
       "of classes the likeliest, the first of equals");
    return done_testing();
}
