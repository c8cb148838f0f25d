/* arrivals_test.c - the gaps between arrivals have the mean and the spread that were asked for. */
#include "tools/arrivals.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { GAPS = 20000 };

/* Mean, coefficient of variation and the share of gaps above the mean. */
static void measure(const struct arrivals *arrivals, double *mean, double *cv, double *above)
{
    double sum = 0, squares = 0;
    int over = 0;
    for (uint32_t i = 0; i < GAPS; i++) {
        const double gap = arrivals_gap_s(arrivals, i);
        assert_true(gap >= 0 && isfinite(gap));
        sum += gap;
        squares += gap * gap;
        over += gap > 1 / arrivals->rate;
    }
    *mean = sum / GAPS;
    *cv = sqrt(squares / GAPS - *mean * *mean) / *mean;
    *above = (double)over / GAPS;
}

/* P(gap > mean) of a gamma distribution: exp(-1) for shape 1; the others are shares of
 * ten million draws of numpy. */
static void gaps_are_of_the_gamma_distribution(void **state)
{
    (void)state;
    static const struct {
        double rate, burstiness, above;
    } cases[] = {
        {4, 1, 0.36788},   {0.5, 1, 0.36788}, {4, 0.25, 0.25643},
        {4, 0.5, 0.31750}, {2, 2, 0.40598},   {100, 16, 0.46674},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct arrivals arrivals = {cases[i].rate, cases[i].burstiness, 11};
        const double wanted_cv = 1 / sqrt(cases[i].burstiness);
        double mean, cv, above;
        measure(&arrivals, &mean, &cv, &above);
        /* 4 standard errors of the mean, and of a share; the spread of a spread is wider. */
        if (fabs(mean * cases[i].rate - 1) > 4 * wanted_cv / sqrt(GAPS) ||
            fabs(cv / wanted_cv - 1) > 0.06 ||
            fabs(above - cases[i].above) > 4 * 0.5 / sqrt(GAPS)) {
            fail_msg("rate %g burstiness %g: mean %g cv %g above %g", cases[i].rate,
                     cases[i].burstiness, mean, cv, above);
        }
    }
}

static void the_seed_gives_the_gaps(void **state)
{
    (void)state;
    const struct arrivals one = {3, 0.7, 5}, same = {3, 0.7, 5}, other = {3, 0.7, 6};
    int equal = 0;
    for (uint32_t i = 0; i < 100; i++) {
        assert_true(arrivals_gap_s(&one, i) == arrivals_gap_s(&same, i));
        equal += arrivals_gap_s(&one, i) == arrivals_gap_s(&other, i);
    }
    assert_int_equal(equal, 0);
}

static void an_infinite_rate_leaves_no_gap(void **state)
{
    (void)state;
    const struct arrivals arrivals = {INFINITY, 1, 0};
    assert_true(arrivals_gap_s(&arrivals, 0) == 0 && arrivals_gap_s(&arrivals, 9) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_are_of_the_gamma_distribution),
        cmocka_unit_test(the_seed_gives_the_gaps),
        cmocka_unit_test(an_infinite_rate_leaves_no_gap),
    };
    return cmocka_run_group_tests_name("arrivals", tests, NULL, NULL);
}
