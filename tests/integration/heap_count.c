/*
 * heap_count.c - preloaded into every process of an agent by test_heap.py: counts the calls to the
 * allocator whose caller is the program itself, not a library it uses. The count of a process lies
 * in the file SLUICE_HEAP_FOLDER/PID, mapped, so that the test reads it while the process runs.
 * Invariant: before the file is there, and in a program that is not asked, nothing is counted.
 */
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct watch {
    uintptr_t first; /* Code of the program: [first, end). */
    uintptr_t end;
    _Atomic uint64_t *count; /* NULL: not counting. */
};

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);

/* Nobody can pass it to malloc. Written once, before main() and its threads. */
static struct watch *watch(void)
{
    static struct watch only;
    return &only;
}

static void note(const void *caller)
{
    const struct watch *seen = watch();
    const uintptr_t at = (uintptr_t)caller;
    if (seen->count && at >= seen->first && at < seen->end) {
        (void)atomic_fetch_add_explicit(seen->count, 1, memory_order_relaxed);
    }
}

/* The program is the first object that is listed. */
static int find_code(struct dl_phdr_info *info, size_t bytes, void *context)
{
    struct watch *found = context;
    (void)bytes;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X)) {
            found->first = info->dlpi_addr + part->p_vaddr;
            found->end = found->first + part->p_memsz;
        }
    }
    return 1;
}

__attribute__((constructor)) static void start_counting(void)
{
    char path[256];
    const char *folder = getenv("SLUICE_HEAP_FOLDER");
    if (!folder) {
        return;
    }
    (void)snprintf(path, sizeof path, "%s/%d", folder, (int)getpid());
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof(uint64_t)) != 0) {
        abort();
    }
    void *count = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (count == MAP_FAILED) {
        abort();
    }
    (void)close(file);
    (void)dl_iterate_phdr(find_code, watch());
    watch()->count = count;
}

void *malloc(size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_calloc(count, bytes);
}

void *realloc(void *block, size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_realloc(block, bytes);
}
