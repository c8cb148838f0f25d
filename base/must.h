/*
 * must.h - assertions that stay on in release.
 *
 * must(x) says "we are wrong if not x": it prints the place and ends this process, and the
 * supervisor restarts it. Peer faults (a bad frame, record or file) are error values instead.
 */
#ifndef BASE_MUST_H
#define BASE_MUST_H

_Noreturn void must_fail(const char *file, int line, const char *expression);

#define must(x) ((x) ? (void)0 : must_fail(__FILE__, __LINE__, #x))

/* Every int that reports an error is looked at. */
#define MUST_CHECK __attribute__((warn_unused_result))

#endif /* BASE_MUST_H */
