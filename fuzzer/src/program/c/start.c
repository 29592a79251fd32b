#include <stdint.h>

/* Where the guest that this was found with has its buffers. This program lies below. */
#define ARENA 0x200000ull
#define NO_VALUE 0x7fffffffffffffffll

/* ---- From the PVH entry (32 bits, paging off) to 64-bit code with the lowest 4 GiB mapped to themselves. ---- */
__asm__(
    ".pushsection .note.Xen, \"a\", @note\n"
    ".balign 4\n"
    ".long 4, 4, 18\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
    ".asciz \"Xen\"\n"
    ".long start32\n"
    ".popsection\n"
    ".pushsection .text\n"
    ".code32\n"
    ".globl start32\n"
    "start32:\n"
    "    cld\n"
    "    mov $stack_top, %esp\n"
    "    mov $pml4, %edi\n"
    "    movl $pdpt + 7, (%edi)\n"
    "    mov $pdpt, %edi\n"
    "    movl $pd + 0x0007, (%edi)\n"
    "    movl $pd + 0x1007, 8(%edi)\n"
    "    movl $pd + 0x2007, 16(%edi)\n"
    "    movl $pd + 0x3007, 24(%edi)\n"
    "    mov $pd, %edi\n"
    "    mov $0x87, %eax\n"
    "    mov $2048, %ecx\n"
    "1:  mov %eax, (%edi)\n"
    "    add $0x200000, %eax\n"
    "    add $8, %edi\n"
    "    loop 1b\n"
    "    mov $pml4, %eax\n"
    "    mov %eax, %cr3\n"
    "    mov $0x620, %eax\n" /* PAE, OSFXSR, OSXMMEXCPT */
    "    mov %eax, %cr4\n"
    "    mov $0xc0000080, %ecx\n" /* EFER */
    "    rdmsr\n"
    "    or $0x100, %eax\n" /* LME */
    "    wrmsr\n"
    "    mov %cr0, %eax\n"
    "    or $0x80000000, %eax\n" /* PG */
    "    mov %eax, %cr0\n"
    "    lgdt gdtr\n"
    "    ljmp $8, $start64\n"
    ".code64\n"
    "start64:\n"
    "    mov $16, %eax\n"
    "    mov %eax, %ds\n"
    "    mov %eax, %es\n"
    "    mov %eax, %ss\n"
    "    call guest_main\n"
    "    ud2\n"
    ".balign 8\n"
    "gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff\n"
    "gdtr: .word 23\n"
    "      .long gdt\n"
    ".popsection\n"
    ".pushsection .bss\n"
    ".balign 4096\n"
    "pml4: .skip 4096\n"
    "pdpt: .skip 4096\n"
    "pd:   .skip 16384\n"
    ".globl hypercall_page\n"
    "hypercall_page: .skip 4096\n"
    "      .skip 16384\n"
    "stack_top:\n"
    ".popsection\n");

extern uint8_t hypercall_page[4096];

static inline void cpuid(uint32_t leaf, uint32_t out[4])
{
    __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
}

/* Asks for the hypercall page: CPUID leaves from 0x40000000 on, public/arch-x86/cpuid.h. */
static void find_hypervisor(void)
{
    for (uint32_t base = 0x40000000; base < 0x40010000; base += 0x100) {
        uint32_t regs[4];
        cpuid(base, regs);
        if (regs[1] == 0x566e6558 && regs[2] == 0x65584d4d && regs[3] == 0x4d4d566e) { /* XenVMMXenVMM */
            uint64_t page = (uint64_t)hypercall_page;
            cpuid(base + 2, regs);
            __asm__ volatile("wrmsr" : : "c"(regs[1]), "a"((uint32_t)page), "d"((uint32_t)(page >> 32)));
            return;
        }
    }
    __asm__ volatile("ud2");
}

static int64_t hypercall(uint32_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    register uint64_t rdi __asm__("rdi") = a;
    register uint64_t rsi __asm__("rsi") = b;
    register uint64_t rdx __asm__("rdx") = c;
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = f;
    uint64_t entry = (uint64_t)hypercall_page + 32 * (uint64_t)number;
    int64_t result;
    __asm__ volatile("call *%[entry]"
                     : "=a"(result), "+r"(rdi), "+r"(rsi), "+r"(rdx), "+r"(r10), "+r"(r8), "+r"(r9)
                     : [entry] "a"(entry)
                     : "rcx", "r11", "memory");
    return result;
}

static inline void put(uint64_t at, const uint8_t *from, uint32_t len)
{
    volatile uint8_t *to = (volatile uint8_t *)(ARENA + at);
    while (len--)
        *to++ = *from++;
}

static inline void fill(uint64_t at, uint32_t len, uint8_t byte)
{
    volatile uint8_t *to = (volatile uint8_t *)(ARENA + at);
    while (len--)
        *to++ = byte;
}

static inline void store(uint64_t at, uint32_t width, uint64_t value)
{
    put(at, (const uint8_t *)&value, width);
}

/* Results of calls that later ones use. */
static uint64_t slots[64];
static uint64_t filled;

static inline uint64_t result(uint32_t slot, uint64_t otherwise)
{
    return filled >> slot & 1 ? slots[slot] : otherwise;
}

static inline void keep(uint32_t slot, int64_t returned, uint64_t value)
{
    if (returned < 0)
        return;
    slots[slot] = value;
    filled |= 1ull << slot;
}

static inline uint64_t load(uint64_t at, uint32_t width)
{
    uint64_t value = 0;
    for (uint32_t byte = 0; byte < width; byte++)
        value |= (uint64_t)((volatile uint8_t *)(ARENA + at))[byte] << 8 * byte;
    return value;
}
