/* What train knows of MPI: all calls of it are here, and no other file includes its header. Built
 * without it, a process is alone, and says so where it was started as one of several. */
#include "tools/train.h"

#include <stdlib.h>

#ifdef HAVE_MPI

#include <fcntl.h>
#include <mpi.h>
#include <string.h>
#include <unistd.h>

enum { OPEN = 256 }; /* transfers at once */
static MPI_Request request[OPEN];
static bool used[OPEN];

/* Without a launcher MPI would start one of its own. */
static bool launched(void)
{
    static const char *const sign[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_FD"};
    for (size_t i = 0; i < sizeof sign / sizeof *sign; i++)
        if (getenv(sign[i]))
            return true;
    return false;
}

bool mpi_begin(int *rank, int *ranks)
{
    int level;
    if (!launched()) {
        const char *n = getenv("SLURM_STEP_NUM_TASKS");
        if (n && atoi(n) > 1)
            tool_die("one of %s tasks of srun, which told MPI nothing (wanted: srun --mpi=pmix)",
                     n);
        return false;
    }
    /* Open MPI's shared memory would read the other process' memory, which a confined one may
     * not. */
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    setenv("OMPI_MCA_smsc", "^cma,knem,xpmem", 0); /* the same, of version 5 */
    /* UCX, which Debian's MPICH talks through, would attach more memory and ask for more sockets
     * while it runs. Within one machine it can do without. */
    const char *all = getenv("PMI_SIZE"), *local = getenv("MPI_LOCALNRANKS");
    if (all && local && !strcmp(all, local))
        setenv("UCX_TLS", "posix,self", 0);
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) ||
        MPI_Comm_rank(MPI_COMM_WORLD, rank) || MPI_Comm_size(MPI_COMM_WORLD, ranks))
        tool_die("MPI: cannot begin");
    if (*ranks == 1)
        MPI_Finalize();
    else if (level < MPI_THREAD_SERIALIZED)
        tool_die("MPI: knows no threads (wanted MPI_THREAD_SERIALIZED)");
    return true;
}

static int place(void)
{
    int i = 0;
    while (i < OPEN && used[i])
        i++;
    if (i == OPEN)
        tool_die("MPI: more transfers at once than %d", OPEN);
    used[i] = true;
    return i;
}

int mpi_send(int to, int tag, const void *data, size_t bytes)
{
    const int i = place();
    MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag, MPI_COMM_WORLD, &request[i]);
    return i;
}

int mpi_receive(int from, int tag, void *data, size_t bytes)
{
    const int i = place();
    MPI_Irecv(data, (int)bytes, MPI_BYTE, from, tag, MPI_COMM_WORLD, &request[i]);
    return i;
}

bool mpi_done(int i)
{
    int done = 0;
    MPI_Test(&request[i], &done, MPI_STATUS_IGNORE);
    used[i] = !done;
    return done;
}

int mpi_ready(int tag)
{
    MPI_Status status;
    int is = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &is, &status);
    return is ? status.MPI_SOURCE : -1;
}

/* A confined process cannot remove files and read the texts of messages any more. The launcher does
 * the former, and of the latter nobody wants to hear at length. */
void mpi_end(void)
{
    const int kept = fcntl(2, F_DUPFD_CLOEXEC, 3);
    close(2);
    MPI_Finalize();
    if (fcntl(kept, F_DUPFD_CLOEXEC, 2) == 2)
        close(kept);
}

void mpi_abort(void)
{
    close(2);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

#else

bool mpi_begin(int *rank, int *ranks)
{
    static const char *const size[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    (void)rank, (void)ranks;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        if (getenv(size[i]) && atoi(getenv(size[i])) > 1)
            tool_die("one of %s processes, but built without MPI (wanted: make MPI=1)",
                     getenv(size[i]));
    return false;
}

int mpi_send(int to, int tag, const void *data, size_t bytes)
{
    (void)to, (void)tag, (void)data, (void)bytes;
    return 0;
}

int mpi_receive(int from, int tag, void *data, size_t bytes)
{
    (void)from, (void)tag, (void)data, (void)bytes;
    return 0;
}

bool mpi_done(int i)
{
    (void)i;
    return true;
}

int mpi_ready(int tag)
{
    (void)tag;
    return -1;
}

void mpi_end(void)
{
}

void mpi_abort(void)
{
}

#endif
